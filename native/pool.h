// Threads that compute together: they spin briefly, then sleep.
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

typedef void (*Job)(void *given, int index);

typedef struct Pool Pool;

// `threads` counts the caller's. Threads begin with the first work. NULL without memory.
Pool *pool_new(int threads);
void pool_free(Pool *pool);
// Runs work(given, 0 .. count - 1), each in a thread: `most`, or fewer where the system gives no more threads.
// `prepare(given, count)` runs before them. The caller must be alone.
void pool_run(Pool *pool, int most, void (*prepare)(void *given, int count), Job work, void *given);
int pool_threads(const Pool *pool);

// Where `count` threads wait for each other.
typedef struct {
    atomic_int waiting, round, crowded;  // crowded: somebody waited long, as where others use the processors
    int count;
} Barrier;

void barrier_wait(Barrier *barrier);
void let_others_run(void);

long long nanoseconds(void);
