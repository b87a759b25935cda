/*
** crc32c_int.h - inside crc32c*.c: the paths, and what they share.
**
** A path is an update function over the raw state (no initial or final
** inversion). All paths give the same value for the same bytes.
*/
#ifndef PAGEDB_CRC32C_INT_H
#define PAGEDB_CRC32C_INT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t crc32c_update_fn(uint32_t state, const unsigned char *p,
                                  size_t n);

typedef struct crc32c_path {
  const char *name;
  int (*supported)(void);
  crc32c_update_fn *update;
} crc32c_path;

/* All paths of this build, best last; ended by a NULL name. */
extern const crc32c_path crc32c_paths[];

/* Reflected polynomial of Castagnoli. */
#define CRC32C_POLY 0x82F63B78u

/*
** Interleaved blocks: three neighbouring blocks of the same length are summed
** at once, because a CRC instruction takes three cycles and one can start
** every cycle. The state of an earlier block is then carried over the length
** L of a later one by multiplying it with x^(8L) mod P. The constants are
** these powers, as reflected 32-bit polynomials (tests/test_crc32c.c computes
** them anew).
*/
enum { CRC32C_LONG = 1344, CRC32C_SHORT = 336 };
#define CRC32C_OVER_LONG   0xd27285dbu /* x^(8*1344)  */
#define CRC32C_OVER_2LONG  0x46bf959eu /* x^(16*1344) */
#define CRC32C_OVER_SHORT  0x7df9f615u /* x^(8*336)   */
#define CRC32C_OVER_2SHORT 0x26b972a1u /* x^(16*336)  */

/*
** Folding by carry-less multiplication (crc32c_x86.c): moving 128 bits D bits
** on takes x^(D+63) and x^(D-1) mod P, reflected into 64 bits.
*/
#define CRC32C_FOLD_128_LO  0x3743f7bd00000000u
#define CRC32C_FOLD_128_HI  0x3171d43000000000u
#define CRC32C_FOLD_256_LO  0x33ccbbbc00000000u
#define CRC32C_FOLD_256_HI  0xa2158b3400000000u
#define CRC32C_FOLD_384_LO  0xa46ef4aa00000000u
#define CRC32C_FOLD_384_HI  0x6051243f00000000u
#define CRC32C_FOLD_512_LO  0x1c19243b00000000u
#define CRC32C_FOLD_512_HI  0x75bba45b00000000u
#define CRC32C_FOLD_1024_LO 0x6577b24500000000u
#define CRC32C_FOLD_1024_HI 0x7417153f00000000u
#define CRC32C_FOLD_1536_LO 0x7ccbbbf200000000u
#define CRC32C_FOLD_1536_HI 0x31c9460800000000u
#define CRC32C_FOLD_2048_LO 0xe9a5d8be00000000u
#define CRC32C_FOLD_2048_HI 0x1426a81500000000u

/* a*b mod P of reflected polynomials, one bit of a at a time. */
static inline uint32_t crc32c_multiply(uint32_t a, uint32_t b)
{
  uint32_t product = 0;
  for (int i = 31; i >= 0; i--) {
    product ^= b & (0u - (a >> i & 1));
    b = (b >> 1) ^ (CRC32C_POLY & (0u - (b & 1)));
  }
  return product;
}

static inline uint64_t crc32c_load64(const unsigned char *p)
{
  uint64_t v;
  memcpy(&v, p, sizeof v);
  return v;
}

/* The functions that a processor with CRC instructions needs, made from its
** names for them: word(state, u64) and byte(state, u8). */
#define CRC32C_INTERLEAVED(attribute, word, byte)                              \
  attribute static uint32_t interleaved_serial(                                \
      uint32_t state, const unsigned char *p, size_t n)                        \
  {                                                                            \
    for (; n >= 8; n -= 8, p += 8)                                             \
      state = word(state, crc32c_load64(p));                                   \
    for (; n > 0; n--, p++)                                                    \
      state = byte(state, *p);                                                 \
    return state;                                                              \
  }                                                                            \
  attribute static uint32_t interleaved_blocks(                                \
      uint32_t a, const unsigned char *p, size_t len, uint32_t over,           \
      uint32_t over2)                                                          \
  {                                                                            \
    uint32_t b = 0, c = 0;                                                     \
    for (size_t i = 0; i < len; i += 8) {                                      \
      a = word(a, crc32c_load64(p + i));                                       \
      b = word(b, crc32c_load64(p + len + i));                                 \
      c = word(c, crc32c_load64(p + 2 * len + i));                             \
    }                                                                          \
    return crc32c_multiply(a, over2) ^ crc32c_multiply(b, over) ^ c;           \
  }                                                                            \
  attribute static uint32_t interleaved_update(                                \
      uint32_t state, const unsigned char *p, size_t n)                        \
  {                                                                            \
    for (; n >= 3 * CRC32C_LONG; n -= 3 * CRC32C_LONG, p += 3 * CRC32C_LONG)   \
      state = interleaved_blocks(state, p, CRC32C_LONG, CRC32C_OVER_LONG,      \
                                 CRC32C_OVER_2LONG);                           \
    for (; n >= 3 * CRC32C_SHORT;                                              \
         n -= 3 * CRC32C_SHORT, p += 3 * CRC32C_SHORT)                         \
      state = interleaved_blocks(state, p, CRC32C_SHORT, CRC32C_OVER_SHORT,    \
                                 CRC32C_OVER_2SHORT);                          \
    return interleaved_serial(state, p, n);                                    \
  }

#if defined(__x86_64__)
crc32c_update_fn crc32c_update_sse42;
crc32c_update_fn crc32c_update_pclmul;
crc32c_update_fn crc32c_update_vpclmul512;
int crc32c_has_sse42(void);
int crc32c_has_pclmul(void);
int crc32c_has_vpclmul512(void);
#endif

#if defined(__aarch64__)
crc32c_update_fn crc32c_update_armv8;
int crc32c_has_armv8(void);
#endif

#endif
