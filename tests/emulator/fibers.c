/* A block's threads as fibers: each runs until it meets a barrier or ends, in an order that can be chosen.

   What the compiler of numba-cuda takes from the hardware (thread and block numbers, barriers, the size of shared
   memory, functions of libdevice) comes from here. Built by emulator.py as a shared library. */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <ucontext.h>

enum { STACK = 1 << 16 };
enum order { RISING, FALLING, RANDOM };
enum state { READY, WAITING, DONE };
typedef void (*kernel)(void *arguments);

static ucontext_t scheduler, *fibers;
static enum state *states;
static char *stacks;
static int room, current, block_size, block_x, block_y, grid_x, grid_y, shared_size;
static kernel run;
static void *given;

int emulated_thread(void) { return current; }
int emulated_block_x(void) { return block_x; }
int emulated_block_y(void) { return block_y; }
int emulated_blocks_x(void) { return grid_x; }
int emulated_blocks_y(void) { return grid_y; }
int emulated_block_size(void) { return block_size; }
int emulated_shared_size(void) { return shared_size; }
int emulated_zero(void) { return 0; }
int emulated_one(void) { return 1; }

static void leave(enum state state) {
    states[current] = state;
    swapcontext(&fibers[current], &scheduler);
}

void emulated_barrier(void) { leave(WAITING); }

static void body(void) {
    run(given);
    leave(DONE);
}

static void make_room(int threads) {
    if (threads <= room) return;
    room = threads;
    fibers = realloc(fibers, room * sizeof *fibers);
    states = realloc(states, room * sizeof *states);
    stacks = realloc(stacks, (size_t)STACK * room);
}

static void shuffle(int *turn, int threads, enum order order, uint32_t *seed) {
    for (int i = 0; i < threads && order == FALLING; i++) turn[i] = threads - 1 - i;
    for (int i = threads - 1; i > 0 && order == RANDOM; i--) {
        *seed = *seed * 1664525u + 1013904223u;
        int j = (*seed >> 8) % (i + 1), t = turn[i];
        turn[i] = turn[j];
        turn[j] = t;
    }
}

/* One block; whether all its threads met at every barrier. */
static int one_block(int *turn, enum order order, uint32_t *seed) {
    for (int i = 0; i < block_size; i++) {
        getcontext(&fibers[i]);
        fibers[i].uc_stack.ss_sp = stacks + (size_t)STACK * i;
        fibers[i].uc_stack.ss_size = STACK;
        fibers[i].uc_link = &scheduler;
        makecontext(&fibers[i], body, 0);
        states[i] = READY;
        turn[i] = i;
    }
    for (int together = 1;;) {
        int done = 0;
        shuffle(turn, block_size, order, seed);
        for (int k = 0; k < block_size; k++) {
            current = turn[k];
            if (states[current] != DONE) swapcontext(&scheduler, &fibers[current]);
            done += states[current] == DONE;
        }
        if (done == block_size) return together;
        if (done) together = 0;     /* some have ended where others wait: a GPU may hang there */
    }
}

/* Launch a kernel; the number of blocks whose threads did not meet at every barrier. */
long emulated_launch(kernel k, void *arguments, int blocks_x, int blocks_y, int threads, int dynamic,
                     char *shared, size_t shared_room, int order, uint32_t seed) {
    long divergent = 0;
    make_room(threads);
    int *turn = malloc(threads * sizeof *turn);
    run = k, given = arguments, block_size = threads, grid_x = blocks_x, grid_y = blocks_y, shared_size = dynamic;
    for (block_y = 0; block_y < blocks_y; block_y++)
        for (block_x = 0; block_x < blocks_x; block_x++) {
            if (shared) memset(shared, 0xA5, shared_room);      /* nothing is zero by luck */
            divergent += !one_block(turn, order, &seed);
        }
    free(turn);
    return divergent;
}

int __nv_ffs(int x) { return ffs(x); }
int __nv_ffsll(long long x) { return ffsll(x); }
int __nv_popc(int x) { return __builtin_popcount(x); }
float __nv_expf(float x) { return expf(x); }
double __nv_exp(double x) { return exp(x); }
float __nv_expm1f(float x) { return expm1f(x); }
double __nv_expm1(double x) { return expm1(x); }
float __nv_fabsf(float x) { return fabsf(x); }
double __nv_fabs(double x) { return fabs(x); }
float __nv_fminf(float a, float b) { return fminf(a, b); }
float __nv_fmaxf(float a, float b) { return fmaxf(a, b); }
double __nv_fmin(double a, double b) { return fmin(a, b); }
double __nv_fmax(double a, double b) { return fmax(a, b); }
float __nv_sqrtf(float x) { return sqrtf(x); }
double __nv_sqrt(double x) { return sqrt(x); }
float __nv_logf(float x) { return logf(x); }
double __nv_log(double x) { return log(x); }
