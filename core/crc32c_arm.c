/*
** crc32c_arm.c - CRC-32C on AArch64 with the CRC instructions of ARMv8.1
** (optional before). Keeps no state; called only after crc32c_has_armv8 said
** yes.
*/
#include "crc32c_int.h"

#if defined(__aarch64__)

#include <arm_acle.h>

#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>

int crc32c_has_armv8(void)
{
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0;
}

#elif defined(__APPLE__) || defined(__ARM_FEATURE_CRC32)

int crc32c_has_armv8(void)
{
  return 1;
}

#else

int crc32c_has_armv8(void)
{
  return 0;
}

#endif

#if defined(__clang__)
#define ARMV8 __attribute__((target("crc")))
#else
#define ARMV8 __attribute__((target("+crc")))
#endif

ARMV8 static inline uint32_t word(uint32_t state, uint64_t v)
{
  return __crc32cd(state, v);
}

ARMV8 static inline uint32_t byte(uint32_t state, unsigned char v)
{
  return __crc32cb(state, v);
}

CRC32C_INTERLEAVED(ARMV8, word, byte)

ARMV8 uint32_t crc32c_update_armv8(uint32_t state, const unsigned char *p,
                                   size_t n)
{
  return interleaved_update(state, p, n);
}

#else

typedef int crc32c_arm_is_empty_here;

#endif
