// The page: what is typed is answered at once.
import { load } from "./halfling.js";

const at = (id) => document.getElementById(id);
const make = (name, attributes, ...inside) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
};
const percent = (share) => `${(100 * share).toFixed(1)} %`;

function sentences(text) {
  if (!("Segmenter" in Intl)) return text.split("\n").filter((line) => line.trim());
  const cut = new Intl.Segmenter(undefined, { granularity: "sentence" });
  return [...cut.segment(text)].map((part) => part.segment.trim()).filter(Boolean);
}

function coloured(text, spans) {
  const shown = make("p", { class: "text", dir: "auto" });
  let done = 0;
  for (const { label, start, end, score } of spans) {
    shown.append(text.slice(done, start));
    shown.append(make("mark", { class: label, title: `${label}, ${percent(score)}` }, text.slice(start, end), make("bdi", {}, label)));
    done = end;
  }
  shown.append(text.slice(done));
  return shown;
}

function bars(scores) {
  const best = Object.entries(scores ?? {}).sort(([, one], [, two]) => two - one).slice(0, 8);
  return best.map(([label, score]) =>
    make("div", { class: "bar" }, make("span", { dir: "auto" }, label), make("meter", { value: score, "aria-label": label }), percent(score)));
}

function answer(model) {
  const other = at("other").value.trim(), whole = at("text").value.trim();
  const given = model.tagging ? sentences(whole) : !whole ? [] : [other ? [whole, other] : whole];
  const begun = performance.now(), found = given.map((text) => model.predict(text)), ms = performance.now() - begun;
  at("answers").replaceChildren(...found.map((one, n) => make("li", {},
    ...(model.tagging ? [coloured(given[n], one.spans)] : bars(one.scores)),
    make("p", { class: "soft", dir: "ltr" },
      `exited after layer ${one.exit_layer} of ${model.about.shape.num_layers}; uncertainty ${one.uncertainty.toFixed(2)}`))));
  at("status").textContent = given.length ? `${ms.toFixed(1)} ms, ${given.length === 1 ? "one text" : `${given.length} sentences`}` : "Type a text.";
}

function told(work) {
  try {
    at("status").className = "soft";
    work();
  } catch (error) {
    at("status").className = "bad";
    at("status").textContent = `No answer: ${error.message}`;
  }
}

const begun = performance.now();
load().then((model) => {
  const exits = model.about.policy.layers.slice(0, -1);
  at("facts").textContent = `${model.tagging ? "Entities" : "Labels"} in ${model.about.shape.num_layers} layers; ` +
    (exits.length ? `exits after ${exits.join(", ")}` : "no early exits");
  at("second").hidden = model.tagging;
  at("status").textContent = `The model is here after ${((performance.now() - begun) / 1000).toFixed(1)} s. Type a text.`;
  for (const id of ["text", "other"]) at(id).addEventListener("input", () => told(() => answer(model)));
  if (at("text").value.trim()) told(() => answer(model));
}, (error) => told(() => { throw error; }));
