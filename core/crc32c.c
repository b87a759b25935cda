/*
** crc32c.c - CRC-32C: the public calls, the portable path, and the choice of a
** path at run time.
**
** Owns two pieces of process-wide state, both written at most a few times with
** the same values: the tables of the portable path and the pointer to the
** chosen update function. The first call of any thread chooses; threads that
** come at the same time choose the same. Nothing is locked.
*/
#include <pthread.h>
#include <stdatomic.h>

#include "crc32c_int.h"
#include "endian.h"
#include "pagedb.h"

/* ----------------------------------------------------------- portable path */

/*
** Eight bytes at a step ("slicing by 8": Kounavis and Berry, ISCC 2005):
** table[k][b] is the CRC of byte b followed by k zero bytes.
*/
static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_make(void)
{
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t v = b;
    for (int i = 0; i < 8; i++)
      v = (v >> 1) ^ (CRC32C_POLY & (0u - (v & 1)));
    table[0][b] = v;
  }
  for (int k = 1; k < 8; k++)
    for (int b = 0; b < 256; b++)
      table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 0xff];
}

static uint32_t update_table(uint32_t state, const unsigned char *p, size_t n)
{
  pthread_once(&table_once, table_make);
  for (; n >= 8; n -= 8, p += 8) {
    uint32_t lo = get_le32(p) ^ state, hi = get_le32(p + 4);
    state = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^
            table[5][lo >> 16 & 0xff] ^ table[4][lo >> 24] ^
            table[3][hi & 0xff] ^ table[2][hi >> 8 & 0xff] ^
            table[1][hi >> 16 & 0xff] ^ table[0][hi >> 24];
  }
  for (; n > 0; n--, p++)
    state = (state >> 8) ^ table[0][(state ^ *p) & 0xff];
  return state;
}

static int has_table(void)
{
  return 1;
}

/* ------------------------------------------------------------------ choice */

const crc32c_path crc32c_paths[] = {
    {"table", has_table, update_table},
#if defined(__x86_64__)
    {"sse42", crc32c_has_sse42, crc32c_update_sse42},
    {"pclmul", crc32c_has_pclmul, crc32c_update_pclmul},
    {"vpclmul512", crc32c_has_vpclmul512, crc32c_update_vpclmul512},
#endif
#if defined(__aarch64__)
    {"armv8", crc32c_has_armv8, crc32c_update_armv8},
#endif
    {NULL, NULL, NULL},
};

static const crc32c_path *best_path(void)
{
  const crc32c_path *best = crc32c_paths;
  for (const crc32c_path *p = crc32c_paths; p->name != NULL; p++)
    if (p->supported())
      best = p;
  return best;
}

static uint32_t update_first(uint32_t state, const unsigned char *p, size_t n);

static _Atomic(crc32c_update_fn *) update = update_first;

static uint32_t update_first(uint32_t state, const unsigned char *p, size_t n)
{
  crc32c_update_fn *chosen = best_path()->update;
  atomic_store_explicit(&update, chosen, memory_order_relaxed);
  return chosen(state, p, n);
}

/* ------------------------------------------------------------------ public */

uint32_t pagedb_crc32c_init(void)
{
  return 0xffffffffu;
}

uint32_t pagedb_crc32c_update(uint32_t state, const void *data, size_t n)
{
  return atomic_load_explicit(&update, memory_order_relaxed)(state, data, n);
}

uint32_t pagedb_crc32c_final(uint32_t state)
{
  return ~state;
}

uint32_t pagedb_crc32c(const void *data, size_t n)
{
  return pagedb_crc32c_final(
      pagedb_crc32c_update(pagedb_crc32c_init(), data, n));
}

const char *pagedb_crc32c_path(void)
{
  return best_path()->name;
}
