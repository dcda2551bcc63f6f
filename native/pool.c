#include "pool.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    SPINS = 4000,           // looks before a waiting thread lets others run
    IDLE_NANOSECONDS = 500000,     // that a thread without work looks for some before it sleeps
    CROWDED_NANOSECONDS = 1000000,  // longer than it takes to wake a thread, less than another's turn on a processor
};

typedef struct {
    Pool *pool;
    pthread_t thread;
    int index;
    unsigned round;  // the last that this thread has not to do with
} Thread;

struct Pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    Thread *threads;
    int wanted, running;  // threads beside the caller's
    pid_t process;
    Job work;
    void *given;
    int count;
    atomic_uint round;
    atomic_int sleeping, undone, stop;
};

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

long long nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void let_others_run(void) { sched_yield(); }

void barrier_wait(Barrier *barrier) {
    if (barrier->count < 2) return;
    int round = atomic_load_explicit(&barrier->round, memory_order_relaxed);
    if (atomic_fetch_add(&barrier->waiting, 1) == barrier->count - 1) {
        atomic_store_explicit(&barrier->waiting, 0, memory_order_relaxed);
        atomic_store(&barrier->round, round + 1);
        return;
    }
    long long since = 0;
    for (int spins = 0; atomic_load_explicit(&barrier->round, memory_order_acquire) == round; spins++) {
        if (spins < SPINS) {
            pause_briefly();
            continue;
        }
        if (!since) since = nanoseconds();
        if (nanoseconds() - since > CROWDED_NANOSECONDS)
            atomic_store_explicit(&barrier->crowded, 1, memory_order_relaxed);
        let_others_run();
    }
}

// Waits for a round of work after `round`.
static unsigned next_round(Pool *pool, unsigned round) {
    unsigned now;
    long long until = nanoseconds() + IDLE_NANOSECONDS;
    for (int spins = 1; (now = atomic_load(&pool->round)) == round; spins++) {
        pause_briefly();
        if (spins % 64 || nanoseconds() < until) continue;
        pthread_mutex_lock(&pool->lock);
        // Whoever begins a round looks at `sleeping` after it: either it sees this thread or this thread the round.
        atomic_fetch_add(&pool->sleeping, 1);
        while ((now = atomic_load(&pool->round)) == round) pthread_cond_wait(&pool->wake, &pool->lock);
        atomic_fetch_sub(&pool->sleeping, 1);
        pthread_mutex_unlock(&pool->lock);
        break;
    }
    return now;
}

static void *live(void *given) {
    Thread *own = given;
    Pool *pool = own->pool;
    for (;;) {
        own->round = next_round(pool, own->round);
        if (atomic_load(&pool->stop)) return NULL;
        if (own->index < pool->count) pool->work(pool->given, own->index);
        atomic_fetch_sub(&pool->undone, 1);
    }
}

static void prepare_for_threads(Pool *pool) {
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    atomic_store(&pool->sleeping, 0);
    pool->running = 0;
    pool->process = getpid();
}

Pool *pool_new(int threads) {
    Pool *pool = calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->wanted = threads > 1 ? threads - 1 : 0;
    pool->threads = calloc((size_t)pool->wanted + 1, sizeof *pool->threads);
    if (!pool->threads) return free(pool), NULL;
    prepare_for_threads(pool);
    return pool;
}

int pool_threads(const Pool *pool) { return pool->wanted + 1; }

static void begin_round(Pool *pool) {
    atomic_store(&pool->undone, pool->running);
    atomic_fetch_add(&pool->round, 1);
    if (!atomic_load(&pool->sleeping)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void pool_free(Pool *pool) {
    if (!pool) return;
    if (pool->process == getpid()) {  // else a fork left the threads behind
        atomic_store(&pool->stop, 1);
        begin_round(pool);
        for (int n = 0; n < pool->running; n++) pthread_join(pool->threads[n].thread, NULL);
    }
    free(pool->threads);
    free(pool);
}

// Signals are for the caller's thread, where Python looks for them.
static void start_threads(Pool *pool) {
    sigset_t every, before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    for (Thread *next; pool->running < pool->wanted; pool->running++) {
        next = &pool->threads[pool->running];
        *next = (Thread){.pool = pool, .index = pool->running + 1, .round = atomic_load(&pool->round)};
        if (pthread_create(&next->thread, NULL, live, next)) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void pool_run(Pool *pool, int most, void (*prepare)(void *given, int count), Job work, void *given) {
    if (pool->process != getpid()) prepare_for_threads(pool);  // this is a fork's child, which has none of them
    if (most > 1 && pool->running < pool->wanted) start_threads(pool);
    pool->count = most < pool->running + 1 ? most : pool->running + 1;
    prepare(given, pool->count);
    if (pool->count < 2) {
        work(given, 0);
        return;
    }
    pool->work = work;
    pool->given = given;
    begin_round(pool);
    work(given, 0);
    for (int spins = 0; atomic_load(&pool->undone); spins++) spins < SPINS ? pause_briefly() : let_others_run();
}
