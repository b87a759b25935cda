/*
** crc32c_x86.c - CRC-32C on x86-64: the crc32 instruction, and folding by
** carry-less multiplication in 128- and 512-bit registers.
**
** Keeps no state. Each function is compiled for its instruction set by an
** attribute and is called only after its crc32c_has_ function said yes.
**
** FOLDING (V. Gopal et al., "Fast CRC Computation for Generic Polynomials Using
** PCLMULQDQ Instruction", Intel, 2009). A register of 128 bits whose content is
** to be moved D bits to the front of the message is replaced by
**     lo * x^(D+64) + hi * x^D   (mod P)
** and added to what stands there; lo is the half with the earlier bytes. In
** reflected registers a carry-less product comes out one bit low, that is
** multiplied by x, so the constants are x^(D+63) and x^(D-1) mod P, reflected
** into 64 bits. What is left at the end, 128 bits, goes through the crc32
** instruction like any data. tests/test_crc32c.c computes the constants anew.
*/
#include "crc32c_int.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <immintrin.h>

/* ------------------------------------------------------------- the machine */

/* What the operating system keeps of the vector registers; 0 if unknown. */
static uint32_t xcr0(void)
{
  uint32_t a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0)
    return 0;
  __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  return a;
}

int crc32c_has_sse42(void)
{
  uint32_t a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2) != 0;
}

int crc32c_has_pclmul(void)
{
  uint32_t a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_2) != 0 &&
         (c & bit_PCLMUL) != 0;
}

int crc32c_has_vpclmul512(void)
{
  const uint32_t zmm_state = 0xe6; /* SSE, AVX, opmask, both halves of ZMM */
  uint32_t a, b, c, d;
  return crc32c_has_pclmul() && (xcr0() & zmm_state) == zmm_state &&
         __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX512F) != 0 &&
         (b & bit_AVX512VL) != 0 && (c & bit_VPCLMULQDQ) != 0;
}

/* ------------------------------------------------------- crc32 instruction */

#define SSE42 __attribute__((target("sse4.2")))

SSE42 static inline uint32_t word(uint32_t state, uint64_t v)
{
  return (uint32_t)_mm_crc32_u64(state, v);
}

SSE42 static inline uint32_t byte(uint32_t state, unsigned char v)
{
  return _mm_crc32_u8(state, v);
}

CRC32C_INTERLEAVED(SSE42, word, byte)

SSE42 uint32_t crc32c_update_sse42(uint32_t state, const unsigned char *p,
                                   size_t n)
{
  return interleaved_update(state, p, n);
}

/* ------------------------------------------------------------------ folding */

#define PCLMUL __attribute__((target("sse4.2,pclmul")))

#define CONSTANT(bits)                                                         \
  _mm_set_epi64x((long long)CRC32C_FOLD_##bits##_HI,                           \
                 (long long)CRC32C_FOLD_##bits##_LO)

PCLMUL static inline __m128i fold(__m128i x, __m128i k, __m128i data)
{
  __m128i lo = _mm_clmulepi64_si128(x, k, 0x00);
  __m128i hi = _mm_clmulepi64_si128(x, k, 0x11);
  return _mm_xor_si128(_mm_xor_si128(lo, hi), data);
}

PCLMUL static inline __m128i load(const unsigned char *p)
{
  return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* Four neighbouring registers become one. */
PCLMUL static inline __m128i join(__m128i a, __m128i b, __m128i c, __m128i d)
{
  d = fold(a, CONSTANT(384), d);
  d = fold(b, CONSTANT(256), d);
  return fold(c, CONSTANT(128), d);
}

/* The last register, then the bytes that follow it. */
PCLMUL static inline uint32_t finish(__m128i x, const unsigned char *p,
                                     size_t n)
{
  for (; n >= 16; n -= 16, p += 16)
    x = fold(x, CONSTANT(128), load(p));
  uint32_t state = word(0, (uint64_t)_mm_cvtsi128_si64(x));
  state = word(state, (uint64_t)_mm_extract_epi64(x, 1));
  return interleaved_serial(state, p, n);
}

PCLMUL uint32_t crc32c_update_pclmul(uint32_t state, const unsigned char *p,
                                     size_t n)
{
  if (n < 128)
    return interleaved_serial(state, p, n);
  const __m128i k = CONSTANT(512);
  __m128i a = _mm_xor_si128(load(p), _mm_cvtsi32_si128((int)state));
  __m128i b = load(p + 16), c = load(p + 32), d = load(p + 48);
  for (p += 64, n -= 64; n >= 64; p += 64, n -= 64) {
    a = fold(a, k, load(p));
    b = fold(b, k, load(p + 16));
    c = fold(c, k, load(p + 32));
    d = fold(d, k, load(p + 48));
  }
  return finish(join(a, b, c, d), p, n);
}

#define VPCLMUL                                                                \
  __attribute__((target("sse4.2,pclmul,avx512f,avx512vl,vpclmulqdq")))

#define WIDE(bits) _mm512_broadcast_i32x4(CONSTANT(bits))

VPCLMUL static inline __m512i fold512(__m512i x, __m512i k, __m512i data)
{
  __m512i lo = _mm512_clmulepi64_epi128(x, k, 0x00);
  __m512i hi = _mm512_clmulepi64_epi128(x, k, 0x11);
  return _mm512_ternarylogic_epi64(lo, hi, data, 0x96); /* a ^ b ^ c */
}

VPCLMUL static inline __m512i load512(const unsigned char *p)
{
  return _mm512_loadu_si512(p);
}

VPCLMUL uint32_t crc32c_update_vpclmul512(uint32_t state,
                                          const unsigned char *p, size_t n)
{
  if (n < 512)
    return crc32c_update_pclmul(state, p, n);
  __m512i k = WIDE(2048);
  __m512i a = _mm512_xor_si512(
      load512(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)state)));
  __m512i b = load512(p + 64), c = load512(p + 128), d = load512(p + 192);
  for (p += 256, n -= 256; n >= 256; p += 256, n -= 256) {
    a = fold512(a, k, load512(p));
    b = fold512(b, k, load512(p + 64));
    c = fold512(c, k, load512(p + 128));
    d = fold512(d, k, load512(p + 192));
  }
  d = fold512(a, WIDE(1536), d);
  d = fold512(b, WIDE(1024), d);
  k = WIDE(512);
  d = fold512(c, k, d);
  for (; n >= 64; p += 64, n -= 64)
    d = fold512(d, k, load512(p));
  return finish(
      join(_mm512_extracti32x4_epi32(d, 0), _mm512_extracti32x4_epi32(d, 1),
           _mm512_extracti32x4_epi32(d, 2), _mm512_extracti32x4_epi32(d, 3)),
      p, n);
}

#else

typedef int crc32c_x86_is_empty_here;

#endif
