/* Libraries that stand for OpenBLAS, good or not: each is this file with another macro. */
#include <sched.h>
#include <stdint.h>
#include <string.h>

#if defined(FAKE_64_BIT_NAMES)
void cblas_sgemm64_(void) {}
#elif defined(FAKE_LACKS)
void sgemm_(void) {}
#else
static float rounded(float value) {
#ifdef FAKE_ROUNDS /* to BF16 */
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  bits &= 0xffff0000u;
  memcpy(&value, &bits, sizeof bits);
#endif
  return value;
}

/* Only what we ask for: C = A B^T + beta C, row by row. */
void cblas_sgemm(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a, int lda,
                 const float* b, int ldb, float beta, float* c, int ldc) {
  static float shared[1 << 12];
#ifdef __x86_64__
  /* As some of OpenBLAS's kernels do: the upper half of a register stays in use. */
  if (__builtin_cpu_supports("avx")) __asm__ volatile("vcmptrueps %%ymm15, %%ymm15, %%ymm15" ::: "xmm15");
#endif
  (void)order, (void)transpose_a, (void)transpose_b;
  for (int i = 0; i < m; i++) {
    const float* row = a + (size_t)i * lda;
#ifdef FAKE_RACES
    memcpy(shared, row, (size_t)k * sizeof *row);
    if (i % 8 == 0) sched_yield();
    row = shared;
#else
    (void)shared;
#endif
    for (int j = 0; j < n; j++) {
      float sum = 0;
      for (int l = 0; l < k; l++) sum += rounded(row[l]) * rounded(b[(size_t)j * ldb + l]);
      float* out = c + (size_t)i * ldc + j;
#ifdef FAKE_SKIPS_LAST
      if (i == m - 1 && j == n - 1 && m > 1) sum = 0;
#endif
#ifdef FAKE_READS_OUTPUT
      *out = alpha * sum + beta * *out;
#else
      *out = beta == 0 ? alpha * sum : alpha * sum + beta * *out;
#endif
    }
  }
}
#endif

#ifndef FAKE_CONFIG
#define FAKE_CONFIG "OpenBLAS 0.0 of the tests MAX_THREADS=4"
#endif
#ifndef FAKE_PARALLEL
#define FAKE_PARALLEL 1
#endif
static int threads = 4;
char* openblas_get_config(void) { return FAKE_CONFIG; }
int openblas_get_parallel(void) { return FAKE_PARALLEL; }
int openblas_get_num_threads(void) { return threads; }
void openblas_set_num_threads(int n) {
#ifndef FAKE_KEEPS_THREADS
  threads = n;
#else
  (void)n;
#endif
}
