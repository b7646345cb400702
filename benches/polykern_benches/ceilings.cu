// What the units of a card give at best. Every kernel runs `passes` times over registers or shared memory and writes
// what it computed, which `units.py` computes again: a rate of a wrong result is none.
//
// No header is included: nvcc and NVRTC compile this file alike. wgmma exists on sm_90a only.

typedef unsigned int word;
typedef long long number;

#define CHAINS 8  // independent results a thread, so that no unit waits for the last one

// a number that differs from lane to lane and from register to register
__device__ __forceinline__ word hashed(word lane, word i, word seed) {
  word x = (lane * 16 + i + 1) * 2654435761u + seed;
  x ^= x >> 15;
  x *= 2246822519u;
  return x ^ x >> 13;
}

// --- units of 32-bit words and of float32: one thread, CHAINS chains ------------------------------------------------

#define ALU(name, type, first, step)                                                                             \
  extern "C" __global__ void __launch_bounds__(1024) name(number *out, int passes, word seed) {                  \
    word lane = threadIdx.x & 31;                                                                                \
    type x[CHAINS];                                                                                              \
    word y[CHAINS];                                                                                              \
    for (int i = 0; i < CHAINS; i++) x[i] = first(hashed(lane, i, seed)), y[i] = hashed(lane, i + CHAINS, seed); \
    for (int pass = 0; pass < passes; pass++) {                                                                  \
      _Pragma("unroll") for (int i = 0; i < CHAINS; i++) { step; }                                               \
    }                                                                                                            \
    number total = 0;                                                                                            \
    for (int i = 0; i < CHAINS; i++) total += (number)x[i] + (number)y[i];                                       \
    out[(number)blockIdx.x * blockDim.x + threadIdx.x] = total;                                                  \
  }

#define SAME(x) (x)
#define SMALL(x) ((float)((x) >> 20))

// one popcount: x += popcount(x ^ seed)
ALU(popcount, word, SAME,
    asm volatile("{.reg .b32 t; xor.b32 t, %0, %1; popc.b32 t, t; add.u32 %0, %0, t;}" : "+r"(x[i]) : "r"(seed)))

// two logical operations of three words
ALU(logic, word, SAME,
    asm volatile("lop3.b32 %0, %0, %1, %2, 0x96; lop3.b32 %1, %0, %1, %2, 0xE8;" : "+r"(x[i]), "+r"(y[i]) : "r"(seed)))

// the ones of two words, x ^ seed and x ^ ~(3 seed), behind a carry-save adder whose ones stay in y: a popcount of the
// carries alone
ALU(carry_save, word, SAME,
    asm volatile("{.reg .b32 u, v, t; xor.b32 u, %0, %2; xor.b32 v, %0, %3; lop3.b32 t, %1, u, v, 0xE8;"
                 " lop3.b32 %1, %1, u, v, 0x96; popc.b32 t, t; add.u32 %0, %0, t;}"
                 : "+r"(x[i]), "+r"(y[i])
                 : "r"(seed), "r"(~(seed * 3))))

// one multiply-add: x = 4096 - x
ALU(float32, float, SMALL, asm volatile("fma.rn.f32 %0, %0, %1, %2;" : "+f"(x[i]) : "f"(-1.0f), "f"(4096.0f)))

// --- tensor units of a warp: mma.sync -------------------------------------------------------------------------------

#define BITS(h) (h)
#define BYTES(h) (((h) & 0x0F0F0F0Fu) | ((h) & 0x08080808u) * 0x1E)  // four of -8 ... 7
#define HALVES(h) (((h) & 0x80008000u) | 0x3C003C00u)                // two of +1 and -1
#define BFLOATS(h) (((h) & 0x80008000u) | 0x3F803F80u)

#define WARP(name, type, letter, values, shape, operation)                                                       \
  extern "C" __global__ void __launch_bounds__(256) name(number *out, int passes, word seed) {                   \
    word lane = threadIdx.x & 31, a[4], b[2];                                                                    \
    for (int i = 0; i < 4; i++) a[i] = values(hashed(lane, i, seed));                                            \
    for (int i = 0; i < 2; i++) b[i] = values(hashed(lane, i + 8, seed));                                        \
    type c[CHAINS][4] = {};                                                                                      \
    for (int pass = 0; pass < passes; pass++) {                                                                  \
      _Pragma("unroll") for (int i = 0; i < CHAINS; i++) asm volatile(                                           \
          "mma.sync.aligned." shape operation " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"           \
          : "+" letter(c[i][0]), "+" letter(c[i][1]), "+" letter(c[i][2]), "+" letter(c[i][3])                   \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                                   \
    }                                                                                                            \
    number *mine = out + 4 * ((number)blockIdx.x * blockDim.x + threadIdx.x);                                    \
    for (int j = 0; j < 4; j++) {                                                                                \
      number total = 0;                                                                                          \
      for (int i = 0; i < CHAINS; i++) total += (number)c[i][j];                                                 \
      mine[j] = total;                                                                                           \
    }                                                                                                            \
  }

#if __CUDA_ARCH__ < 1000  // later cards have no unit for bits
WARP(b1_mma, int, "r", BITS, "m16n8k256.row.col", ".s32.b1.b1.s32.and.popc")
#endif
WARP(int8_mma, int, "r", BYTES, "m16n8k32.row.col", ".s32.s8.s8.s32")
WARP(fp16_mma, float, "f", HALVES, "m16n8k16.row.col", ".f32.f16.f16.f32")
WARP(bf16_mma, float, "f", BFLOATS, "m16n8k16.row.col", ".f32.bf16.bf16.f32")

// float64: m16n8k16 where there is one, else m8n8k4
#if __CUDA_ARCH__ >= 900
#define PARTS 8
#else
#define PARTS 1
#endif

extern "C" __global__ void __launch_bounds__(256) float64_mma(number *out, int passes, word seed) {
  word lane = threadIdx.x & 31;
  double a[PARTS], b[(PARTS + 1) / 2], c[CHAINS][4] = {};
  for (int i = 0; i < PARTS; i++) a[i] = (double)(int)(hashed(lane, i, seed) >> 24) - 128;
  for (int i = 0; i < (PARTS + 1) / 2; i++) b[i] = (double)(int)(hashed(lane, i + 8, seed) >> 24) - 128;
  for (int pass = 0; pass < passes; pass++) {
#pragma unroll
    for (int i = 0; i < CHAINS; i++) {
#if __CUDA_ARCH__ >= 900
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f64.f64.f64.f64 {%0,%1,%2,%3}, {%4,%5,%6,%7,%8,%9,%10,%11},"
          " {%12,%13,%14,%15}, {%0,%1,%2,%3};"
          : "+d"(c[i][0]), "+d"(c[i][1]), "+d"(c[i][2]), "+d"(c[i][3])
          : "d"(a[0]), "d"(a[1]), "d"(a[2]), "d"(a[3]), "d"(a[4]), "d"(a[5]), "d"(a[6]), "d"(a[7]), "d"(b[0]),
            "d"(b[1]), "d"(b[2]), "d"(b[3]));
#else
      asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0,%1}, {%2}, {%3}, {%0,%1};"
                   : "+d"(c[i][0]), "+d"(c[i][1])
                   : "d"(a[0]), "d"(b[0]));
#endif
    }
  }
  number *mine = out + 4 * ((number)blockIdx.x * blockDim.x + threadIdx.x);
  for (int j = 0; j < 4; j++) {
    double total = 0;
    for (int i = 0; i < CHAINS; i++) total += c[i][j];
    mine[j] = (number)total;
  }
}

// --- tensor units of four warps: wgmma, both operands from shared memory --------------------------------------------

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

#define SUMS \
  "{" \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63," \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79," \
  "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95," \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127" \
  "}"
#define EIGHT(kind, c, i) \
  kind(c[i]), kind(c[i + 1]), kind(c[i + 2]), kind(c[i + 3]), kind(c[i + 4]), kind(c[i + 5]), kind(c[i + 6]), kind(c[i + 7])
#define QUARTER(kind, c, i) EIGHT(kind, c, i), EIGHT(kind, c, i + 8), EIGHT(kind, c, i + 16), EIGHT(kind, c, i + 24)
#define EACH(kind, c) QUARTER(kind, c, 0), QUARTER(kind, c, 32), QUARTER(kind, c, 64), QUARTER(kind, c, 96)
#define INTEGER(x) "+r"(x)
#define REAL(x) "+f"(x)

// rows of 128 bytes in groups of eight, swizzled by 128 bytes
__device__ __forceinline__ unsigned long long description(word address) {
  return (unsigned long long)(address >> 4 & 0x3FFF) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

// A row holds one word 32 times, so the swizzle moves nothing. Two groups of four warps, 64 rows of A each, 256 of B.
#define GROUP(name, type, kind, values, operation, scales)                                                       \
  extern "C" __global__ void __launch_bounds__(256, 1) name(number *out, int passes, word seed) {                \
    __shared__ __align__(1024) word rows[(128 + 256) * 32];                                                      \
    for (int i = threadIdx.x; i < (128 + 256) * 32; i += 256) rows[i] = values(hashed(i / 32, 0, seed));         \
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");                                                 \
    __syncthreads();                                                                                             \
    word base = (word)__cvta_generic_to_shared(rows);                                                            \
    unsigned long long a = description(base + (threadIdx.x >> 7) * 8192), b = description(base + 16384);         \
    type c[128];                                                                                                 \
    _Pragma("unroll") for (int i = 0; i < 128; i++) c[i] = 0;                                                    \
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");                                                      \
    for (int pass = 0; pass < passes; pass++) {                                                                  \
      _Pragma("unroll") for (int i = 0; i < 4; i++) asm volatile(                                                \
          "wgmma.mma_async.sync.aligned." operation " " SUMS ", %128, %129, " scales ";"                         \
          : EACH(kind, c)                                                                                        \
          : "l"(a + 2 * i), "l"(b + 2 * i));                                                                     \
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");                                             \
      asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");                                             \
    }                                                                                                            \
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");                                               \
    double upper = 0, lower = 0;                                                                                 \
    _Pragma("unroll") for (int i = 0; i < 128; i += 4) {                                                         \
      upper += (double)c[i] + (double)c[i + 1];                                                                  \
      lower += (double)c[i + 2] + (double)c[i + 3];                                                              \
    }                                                                                                            \
    number *mine = out + 2 * ((number)blockIdx.x * blockDim.x + threadIdx.x);                                    \
    mine[0] = (number)upper, mine[1] = (number)lower;                                                            \
  }

GROUP(b1_wgmma, int, INTEGER, BITS, "m64n256k256.s32.b1.b1.and.popc", "1")
GROUP(int8_wgmma, int, INTEGER, BYTES, "m64n256k32.s32.s8.s8", "1")
GROUP(fp16_wgmma, float, REAL, HALVES, "m64n256k16.f32.f16.f16", "1, 1, 1, 0, 0")
GROUP(bf16_wgmma, float, REAL, BFLOATS, "m64n256k16.f32.bf16.bf16", "1, 1, 1, 0, 0")

#endif

// --- memory: sixteen bytes a load, eight loads in flight a thread ---------------------------------------------------

#define AHEAD 8

extern "C" __global__ void __launch_bounds__(256) copy(const uint4 *in, uint4 *out, number size) {
  number stride = (number)gridDim.x * blockDim.x, first = (number)blockIdx.x * blockDim.x + threadIdx.x;
  for (number at = first; at + (AHEAD - 1) * stride < size; at += AHEAD * stride) {
    uint4 x[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) x[i] = in[at + i * stride];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) out[at + i * stride] = x[i];
  }
}

extern "C" __global__ void __launch_bounds__(256) read(const uint4 *in, number *out, number size) {
  number stride = (number)gridDim.x * blockDim.x, first = (number)blockIdx.x * blockDim.x + threadIdx.x, total = 0;
  for (number at = first; at + (AHEAD - 1) * stride < size; at += AHEAD * stride) {
    uint4 x[AHEAD];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) x[i] = in[at + i * stride];
#pragma unroll
    for (int i = 0; i < AHEAD; i++) total += (number)x[i].x + x[i].y + x[i].z + x[i].w;
  }
  out[first] = total;
}
