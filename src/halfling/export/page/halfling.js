// Answers with the model of a folder that `halfling export --backends web` wrote, in a browser or in Node.
//
//     import { load } from "./halfling.js";
//     const model = await load("./");
//     model.predict("Amina anaishi Mombasa.").spans;  // [{label: "PER", start: 0, end: 5, text: "Amina", score: 0.785}, ...]
//
// It does what halfling/engine does in Python, around the same library in C. One thing differs: `start` and `end`
// count UTF-16 units, so that text.slice(start, end) is the entity. Python's count characters.

const BOS = 0, EOS = 2;
const CRITERIA = ["entropy", "max_probability", "margin", "patience"];
const SPACES = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"; // Python's, not \s
const RUNS = new RegExp(`[^${SPACES}]+`, "gu");
const PUNCTUATION = /^\p{P}$/u;
const utf8 = new TextEncoder();

/** Fetch a folder's files, by default those beside this one, and return its model. */
export async function load(folder = new URL(".", import.meta.url)) {
  const place = new URL(folder, globalThis.document?.baseURI ?? globalThis.location?.href ?? import.meta.url);
  if (!place.pathname.endsWith("/")) place.pathname += "/";
  const [about, code, weights, tables] = await Promise.all(
    ["engine.json", "halfling.wasm", "native.weights.gz", "native.tokenizer.gz"].map((name) => bytesOf(new URL(name, place))));
  const { instance } = await WebAssembly.instantiate(code);
  instance.exports._initialize();
  return new Model(JSON.parse(new TextDecoder().decode(about)), instance.exports, weights, tables);
}

async function bytesOf(url) {
  const said = await fetch(url, { cache: "no-cache" }); // else old weights may meet a new engine.json
  if (!said.ok) throw new Error(`${url}: ${said.status} ${said.statusText}`);
  const bytes = new Uint8Array(await said.arrayBuffer());
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes; // also where the host has said gzip, and the browser undone it
  const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(whole).arrayBuffer());
}

class Model {
  /** Takes what engine.json says, the library, and the files that it reads. */
  constructor(about, library, weights, tables) {
    if (about.format !== 3) throw new Error("engine.json: of another version of halfling: export the model again");
    this.about = about;
    this.library = library;
    this.weights = this.#opened("native.weights", "halfling_over", weights, 1, 0);
    this.tokenizer = this.#opened("native.tokenizer", "halfling_tokenizer_over", tables);
    this.tagging = about.kind === "token";
    this.prefixed = about.labels.some(hasPrefix);
  }

  /**
   * Return the answer to a text, or of a classifier to a pair [text, text]; a tagger takes a list of words too, and
   * counts words then. Of a tagger: {tags, spans, exit_layer, uncertainty}; of a classifier:
   * {label, scores, exit_layer, uncertainty, truncated}.
   *
   * `language` exits by that language's thresholds, where calibration made some (`sw-KE` by those of `sw`); with `exits`
   * false nobody exits early.
   */
  predict(text, { language, exits = true } = {}) {
    const parts = [text].flat();
    if (!parts.every((part) => typeof part === "string") || (!this.tagging && (parts.length < 1 || parts.length > 2)))
      throw new TypeError(this.tagging ? "expected a text or a list of words" : "expected a text or a pair of texts");
    if (parts.some((part) => /\p{Cs}/u.test(part))) throw new TypeError("the text holds half a surrogate pair");
    const policy = { ...(this.about.policies[whose(this.about.policies, language)] ?? this.about.policy) };
    if (!exits) Object.assign(policy, { layers: policy.layers.slice(-1), thresholds: [] });
    return this.tagging ? this.#tag(text, policy) : this.#classify(parts, policy);
  }

  #classify(parts, policy) {
    // Nothing is said of a text without characters.
    if (parts.some((part) => !part.match(RUNS))) return { label: null, scores: null, exit_layer: 0, uncertainty: 0, truncated: false };
    const [ids, truncated] = join(this.pieces(parts), this.about.shape.max_tokens);
    const [{ logits, exit_layer, uncertainty }] = this.answer([{ ids, picked: [0] }], policy);
    const shares = softmax(logits[0]), labels = this.about.labels;
    const scores = Object.fromEntries(labels.map((label, n) => [label, shares[n]]));
    return { label: labels[largest(shares)], scores, exit_layer, uncertainty, truncated };
  }

  #tag(text, policy) {
    const { labels, shape } = this.about, whole = typeof text === "string";
    const places = whole ? splitWords(text) : text.map((_, n) => [n, n + 1]);
    const pieces = this.pieces(whole ? places.map(([start, end]) => text.slice(start, end)) : text);
    const answers = this.answer(windows(pieces, shape.max_tokens), policy);
    const rows = answers.flatMap((answer) => answer.logits.map(softmax));
    const outside = labels.includes("O") ? "O" : null; // as parts of speech have none
    const sure = pieces.map(() => 1), tags = pieces.map(() => outside);
    let row = 0;
    pieces.forEach((cut, n) => {
      if (!cut.length) return;
      const best = largest(rows[row]);
      tags[n] = labels[best];
      sure[n] = rows[row++][best];
    });
    const found = this.prefixed || outside ? spansOf(tags, this.prefixed) : [];
    const spans = found.map(([label, first, last]) => {
      const start = places[first][0], end = places[last][1], part = text.slice(start, end);
      const score = sure.slice(first, last + 1).reduce((sum, each) => sum + each, 0) / (last + 1 - first);
      return { label, start, end, text: whole ? part : part.join(" "), score };
    });
    const most = (name) => Math.max(0, ...answers.map((answer) => answer[name]));
    return { tags, spans, exit_layer: most("exit_layer"), uncertainty: most("uncertainty") };
  }

  /** Return XLM-R's ids of each text, without special tokens. */
  pieces(texts) {
    const count = texts.length, ends = BigInt64Array.from(startsOf(texts.map((text) => utf8.encode(text))).slice(1), BigInt);
    return this.#holding((held) => {
      const joined = this.#put(utf8.encode(texts.join("")), held), idEnds = this.#room(8 * count, held);
      const found = this.library.halfling_tokenize(this.tokenizer, joined, this.#put(ends, held), BigInt(count), idEnds);
      if (!found) throw new Error("no memory");
      held.push(found);
      const until = Array.from(this.#view(BigInt64Array, idEnds, count), Number);
      const ids = this.#view(Int32Array, found, until.at(-1) ?? 0);
      return until.map((end, n) => [...ids.subarray(n ? until[n - 1] : 0, end)]);
    });
  }

  /** Return logits of the places picked, exit layer and uncertainty of sequences of token ids. */
  answer(sequences, policy) {
    const classes = this.about.labels.length, count = sequences.length, by_token = policy.granularity === "token";
    const ids = sequences.flatMap((one) => one.ids), picked = sequences.flatMap((one) => one.picked);
    const starts = startsOf(sequences.map((one) => one.ids)), pickedStarts = startsOf(sequences.map((one) => one.picked));
    return this.#holding((held) => {
      const put = (numbers, kind = Int32Array) => this.#put(kind.from(numbers), held);
      // The structures of native/halfling.h: everything in them has 32 bits.
      const told = put([policy.layers.length, put(policy.layers), put(policy.thresholds, Float32Array),
        CRITERIA.indexOf(policy.criterion), policy.patience ?? 0, by_token, policy.token_pooling === "max"]);
      const questions = put([count, put(ids), put(starts), put(picked), put(pickedStarts), 0]);
      const answers = [picked.length * classes, count, count, by_token ? ids.length : 0].map((most) => this.#room(4 * most, held));
      const wrong = this.library.halfling_answer(this.weights, told, questions, put(answers));
      if (wrong) throw new Error(this.#text(wrong));
      const logits = this.#view(Float32Array, answers[0], picked.length * classes).slice();
      return sequences.map((one, n) => ({
        logits: one.picked.map((_, row) => logits.subarray((pickedStarts[n] + row) * classes, (pickedStarts[n] + row + 1) * classes)),
        exit_layer: this.#view(Int32Array, answers[1], count)[n],
        uncertainty: this.#view(Float32Array, answers[2], count)[n],
      }));
    });
  }

  #opened(name, open, bytes, ...more) {
    const kept = this.#put(bytes, []);
    return this.#holding((held) => {
      const wrong = this.#room(4, held), found = this.library[open](kept, BigInt(bytes.length), ...more, wrong);
      if (!found) throw new Error(`${name}: ${this.#text(this.#view(Uint32Array, wrong, 1)[0])}: export the model again`);
      return found;
    });
  }

  #room(bytes, held) {
    const place = this.library.aligned_alloc(64, Math.max(1, Math.ceil(bytes / 64)) * 64) >>> 0;
    if (!place) throw new Error("no memory");
    held.push(place);
    return place;
  }

  #put(array, held) {
    const place = this.#room(array.byteLength, held);
    this.#view(array.constructor, place, array.length).set(array);
    return place;
  }

  // Never kept: the library's memory moves as it grows.
  #view(kind, place, length) {
    return new kind(this.library.memory.buffer, place >>> 0, length);
  }

  #text(place) {
    const bytes = new Uint8Array(this.library.memory.buffer, place >>> 0);
    return new TextDecoder().decode(bytes.slice(0, bytes.indexOf(0)));
  }

  // Gives back, whatever happens, what `work` lists.
  #holding(work) {
    const held = [];
    try {
      return work(held);
    } finally {
      for (const place of held) this.library.halfling_free(place);
    }
  }
}

/** Return where words begin and end: at white space, with punctuation around a word on its own. */
export function splitWords(text) {
  const found = [];
  for (const run of text.matchAll(RUNS)) {
    const letters = [...run[0]];
    let left = 0, right = letters.length, at = run.index;
    while (left < right && PUNCTUATION.test(letters[left])) left++;
    while (right > left && PUNCTUATION.test(letters[right - 1])) right--;
    const word = left < right ? [letters.slice(left, right).join("")] : [];
    for (const part of [...letters.slice(0, left), ...word, ...letters.slice(right)]) found.push([at, at += part.length]);
  }
  return found;
}

/** Return the language whose set holds for one: its own, or without its region. */
function whose(policies, language = "") {
  const plain = (code) => code.replaceAll("_", "-").toLowerCase(), asked = plain(language);
  const among = (code) => Object.keys(policies).find((other) => plain(other) === code);
  return among(asked) ?? among(asked.replace(/-([a-z]{2}|[0-9]{3})$/, ""));
}

/** Return `<s> first </s>` or `<s> first </s></s> second </s>`, the longer cut first, and whether one was cut. */
function join([first, second], most) {
  if (!second) return [[BOS, ...first.slice(0, most - 2), EOS], first.length > most - 2];
  let one = first.length, two = second.length;
  const room = most - 4, cut = one + two > room;
  if (cut) {
    const shorter = Math.min(one, two, Math.floor(room / 2));
    [one, two] = one <= two ? [shorter, room - shorter] : [room - shorter, shorter];
  }
  return [[BOS, ...first.slice(0, one), EOS, EOS, ...second.slice(0, two), EOS], cut];
}

/** Return as many sequences as a sentence needs, cut between words. */
function windows(pieces, most) {
  const found = [], room = most - 2;
  for (const word of pieces.map((cut) => cut.slice(0, room))) {
    if (!word.length) continue;
    if (!found.length || found.at(-1).ids.length - 1 + word.length > room) found.push({ ids: [BOS], picked: [] });
    found.at(-1).picked.push(found.at(-1).ids.length);
    found.at(-1).ids.push(...word);
  }
  for (const one of found) one.ids.push(EOS);
  return found;
}

/** Return [type, first, last] of each span, in any scheme of prefixes or with bare types. */
function spansOf(tags, prefixed) {
  const found = [];
  let open = "", first = 0;
  [...tags, "O"].forEach((tag, place) => {
    const [prefix, kind] = (tag ?? "O") === "O" ? ["", ""] : prefixed ? [tag[0], tag.slice(2)] : ["I", tag];
    if (open && (kind !== open || "BSU".includes(prefix))) {
      found.push([open, first, place - 1]);
      open = "";
    }
    if (kind && !open) [open, first] = [kind, place];
    if (open && "ESLU".includes(prefix)) {
      found.push([open, first, place]);
      open = "";
    }
  });
  return found;
}

function hasPrefix(label) {
  return label[1] === "-" && "BIESLUM".includes(label[0]);
}

function softmax(logits) {
  if (!logits.every(Number.isFinite)) throw new Error("the model answers with what is no number: export another");
  const most = Math.max(...logits), powers = Array.from(logits, (each) => Math.exp(each - most));
  const sum = powers.reduce((so_far, each) => so_far + each, 0);
  return powers.map((each) => each / sum);
}

function largest(numbers) {
  return numbers.indexOf(Math.max(...numbers));
}

function startsOf(parts) {
  let sum = 0;
  return [0, ...parts.map((part) => (sum += part.length))];
}
