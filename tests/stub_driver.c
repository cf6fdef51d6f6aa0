/* A libcuda.so.1 that does nothing, to see what a launch asks of the driver and what it costs the host. And a cuBLAS.

   All of the driver's functions are found through cuGetProcAddress. Those named below answer as an H100 would; every
   other one succeeds and does nothing. Launches are counted, and the last one's geometry and parameters are kept.

   What is called is written down, a letter each: k a kernel and g a product while a stream is recorded, K and G else; B
   and E where recording begins and ends, I and L where a graph is made and launched. What would not be recorded, for it
   goes to another stream, is X. Products are computed, by the definition, if that is asked for. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PARAMETERS 1024
#define EXPORT __attribute__((visibility("default")))

static long launches, expected;
static int refusal;
static unsigned geometry[7];
static uint64_t parameters[PARAMETERS];
static char calls[1 << 16];
static long called;
static void *recorded, *blas_stream;
static int computing = 1;
static int context[64];
static void *current;

EXPORT long stub_launches(void) { return launches; }
EXPORT void stub_expect(long count) { expected = count; }   /* parameters of the next launch */
EXPORT void stub_refuse(int error) { refusal = error; }      /* the next launch by cuLaunchKernel */
EXPORT const unsigned *stub_geometry(void) { return geometry; }
EXPORT const uint64_t *stub_parameters(void) { return parameters; }

EXPORT const char *stub_calls(void) { return calls; }
EXPORT void stub_forget(void) { memset(calls, 0, sizeof calls); called = 0; }
EXPORT void stub_compute(int whether) { computing = whether; }

static void call(char letter) { if (called < (long)sizeof calls - 1) calls[called++] = letter; }
static void start(char letter, void *stream)
{
    call(!recorded ? letter - 'a' + 'A' : stream == recorded ? letter : 'X');
}

static int nothing(void) { return 0; }
static int version(int *out) { *out = 12090; return 0; }
static int count(int *out) { *out = 1; return 0; }
static int device(int *out) { *out = 0; return 0; }
static int name(char *out, int length, int which) { (void)which; strncpy(out, "a stub", length); return 0; }
static int total(size_t *out, int which) { (void)which; *out = (size_t)80 << 30; return 0; }
static int uuid(char *out) { memset(out, 7, 16); return 0; }
static int primary(void **out) { *out = context; return 0; }
static int state(int which, unsigned *flags, int *active) { (void)which; *flags = 0; *active = current != 0; return 0; }
static int current_context(void **out) { *out = current; return 0; }
static int set_context(void *it) { current = it; return 0; }
static int pop_context(void **out) { if (out) *out = current; return 0; }
static int memory(size_t *free_bytes, size_t *all) { *free_bytes = (size_t)70 << 30; *all = (size_t)80 << 30; return 0; }
static int handle(void **out) { *out = malloc(64); return 0; }
static int number(int *out) { *out = 64; return 0; }
static int refused(void) { return 1; }
static int text(int error, const char **out) { (void)error; *out = "STUB"; return 0; }

static int attribute(int *out, int which)
{
    switch (which) {                      /* CUdevice_attribute */
    case 75: *out = 9; break;             /* compute capability */
    case 76: *out = 0; break;
    case 16: *out = 132; break;           /* multiprocessors */
    case 10: *out = 32; break;            /* warp */
    case 1: case 2: case 3: *out = 1024; break;
    case 5: case 6: case 7: *out = 65535; break;
    case 8: *out = 48 << 10; break;
    case 12: case 82: *out = 65536; break;
    case 39: *out = 2048; break;
    default: *out = which == 20 ? 0 : 1;
    }
    return 0;
}

static int pointer(void *out, int which, uint64_t address)
{
    if (which == 1) *(void **)out = context;
    else if (which == 2) *(unsigned *)out = 2;
    else if (which == 3 || which == 4) *(uint64_t *)out = address;
    else *(int *)out = 0;
    return 0;
}

static int begin(void *stream, int mode) { (void)mode; recorded = stream; call('B'); return 0; }
static int end(void *stream, void **graph) { recorded = 0; call('E'); *graph = stream; return 0; }
static int instantiate(void **made, void *graph, uint64_t flags)
{
    (void)flags;
    *made = graph;
    call('I');
    return 0;
}
static int launch_graph(void *graph, void *stream)
{
    (void)stream;
    call(graph ? 'L' : 'X');
    return 0;
}

static void keep(const unsigned *shape, unsigned shared, void **given)
{
    launches++;
    memcpy(geometry, shape, 6 * sizeof *shape);
    geometry[6] = shared;
    for (long n = 0; n < expected && n < PARAMETERS; n++) memcpy(parameters + n, given[n], 8);
}

static int launch(void *f, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                  void *stream, void **given, void **extra)
{
    unsigned shape[] = {x, y, z, bx, by, bz};
    int error = refusal;
    (void)f; (void)extra;
    refusal = 0;
    if (error) return error;
    start('k', stream);
    keep(shape, shared, given);
    return 0;
}

static int launch_with(const unsigned *configuration, void *f, void **given, void **extra)
{
    (void)f; (void)extra;
    start('k', *(void *const *)(configuration + 8));    /* CUlaunchConfig.hStream */
    keep(configuration, configuration[6], given);
    return 0;
}

static const struct { const char *name; void *function; } KNOWN[] = {
    {"cuDriverGetVersion", version}, {"cuDeviceGetCount", count}, {"cuDeviceGet", device}, {"cuDeviceGetName", name},
    {"cuDeviceTotalMem", total}, {"cuDeviceGetUuid", uuid}, {"cuDeviceGetAttribute", attribute},
    {"cuDevicePrimaryCtxRetain", primary}, {"cuDevicePrimaryCtxGetState", state},
    {"cuCtxGetCurrent", current_context}, {"cuCtxSetCurrent", set_context}, {"cuCtxPushCurrent", set_context},
    {"cuCtxPopCurrent", pop_context}, {"cuCtxGetDevice", device}, {"cuCtxGetFlags", device}, {"cuMemGetInfo", memory},
    {"cuPointerGetAttribute", pointer}, {"cuLibraryLoadData", handle}, {"cuLibraryGetKernel", handle},
    {"cuLibraryGetModule", handle}, {"cuKernelGetFunction", handle}, {"cuModuleLoadDataEx", handle},
    {"cuModuleLoadData", handle}, {"cuModuleGetFunction", handle}, {"cuStreamCreate", handle},
    {"cuEventCreate", handle}, {"cuFuncGetAttribute", number}, {"cuKernelGetAttribute", number},
    {"cuKernelGetParamInfo", refused}, {"cuFuncGetParamInfo", refused}, {"cuGetErrorName", text},
    {"cuGetErrorString", text}, {"cuLaunchKernel", launch}, {"cuLaunchKernelEx", launch_with},
    {"cuStreamBeginCapture", begin}, {"cuStreamEndCapture", end}, {"cuGraphInstantiate", instantiate},
    {"cuGraphInstantiateWithFlags", instantiate},
    {"cuGraphLaunch", launch_graph}, {0, 0}};

static void *found(const char *wanted)
{
    for (int n = 0; KNOWN[n].name; n++) {
        size_t length = strlen(KNOWN[n].name);
        const char *rest = wanted + length;
        if (!strncmp(wanted, KNOWN[n].name, length) && (!*rest || !strncmp(rest, "_v", 2) || !strcmp(rest, "_ptsz")))
            return KNOWN[n].function;
    }
    return nothing;
}

EXPORT int cuGetProcAddress_v2(const char *wanted, void **out, int least, uint64_t flags, int *status)
{
    (void)least; (void)flags;
    *out = found(wanted);
    if (status) *status = 0;
    return 0;
}

EXPORT int cuGetProcAddress(const char *wanted, void **out, int least, uint64_t flags)
{
    return cuGetProcAddress_v2(wanted, out, least, flags, 0);
}

/* cuBLAS. */
EXPORT int cublasCreate_v2(void **out) { return handle(out); }
EXPORT int cublasSetStream_v2(void *it, void *stream) { (void)it; blas_stream = stream; return 0; }
EXPORT int cublasSetWorkspace_v2(void *it, void *memory, size_t bytes)
{
    (void)it;
    return memory == 0 || bytes == 0;
}

#define GEMM(name, real) \
EXPORT int name(void *it, int ta, int tb, int m, int n, int k, const real *one, const real *a, int lda, \
                long long step_a, const real *b, int ldb, long long step_b, const real *zero, real *c, int ldc, \
                long long step_c, int count) \
{ \
    (void)it; \
    start('g', blas_stream); \
    if (*one != 1 || *zero != 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7; \
    for (int z = 0; z < count && computing; z++, a += step_a, b += step_b, c += step_c) \
        for (int j = 0; j < n; j++) \
            for (int i = 0; i < m; i++) { \
                real sum = 0; \
                for (int l = 0; l < k; l++) \
                    sum += (ta ? a[l + (long)i * lda] : a[i + (long)l * lda]) \
                         * (tb ? b[j + (long)l * ldb] : b[l + (long)j * ldb]); \
                c[i + (long)j * ldc] = sum; \
            } \
    return 0; \
}
GEMM(cublasSgemmStridedBatched, float)
GEMM(cublasDgemmStridedBatched, double)

/* Asked by name. */
EXPORT int cuInit(unsigned flags) { (void)flags; return 0; }
EXPORT int cuDriverGetVersion(int *out) { return version(out); }
