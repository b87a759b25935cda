/*
** fuzz_alloc.c - libFuzzer: opening an allocator on hostile bytes.
**
** Input: head, next new, count, then links of pages 1, 2, ... as 8-byte words;
** the pages around them are well stamped, or the fuzzer would never get past
** the CRC. If the last bit of the input is set, the raw bytes are laid over the
** start of the superblock without a stamp. An allocator that opens hands out
** ids, each once, and syncs.
*/
#include <stdlib.h>
#include <string.h>

#include "endian.h"
#include "fault_store.h"

enum { PAGE = 512, AT = PAGEDB_RECORD_SIZE, MOST = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void poke(fault_store *disk, uint64_t id, unsigned char *page)
{
  pagedb_page_stamp(page, PAGE, PAGEDB_LEADING, id, 0);
  fault_store_poke(disk, id, page);
}

static fault_store *make_disk(const uint8_t *data, size_t n)
{
  fault_store *disk = fault_store_new(PAGE);
  unsigned char page[PAGE] = {0};
  size_t at = n < 24 ? n : 24;
  memcpy(page + AT, "PGSB\1", 5);
  memcpy(page + AT + 8, data, at);
  poke(disk, 0, page);
  for (uint64_t id = 1; at + 8 <= n && id < MOST; at += 8, id++) {
    memset(page, 0, PAGE);
    memcpy(page + AT, data + at, 8);
    poke(disk, id, page);
  }
  if (n > 0 && (data[n - 1] & 1) != 0) {
    memcpy(page, data, n < PAGE ? n : PAGE);
    fault_store_poke(disk, 0, page);
  }
  return disk;
}

static void use(pagedb_alloc *a)
{
  uint64_t ids[2 * MOST];
  uint64_t free_before = pagedb_alloc_free_count(a);
  for (int i = 0; i < 2 * MOST; i++) {
    if (pagedb_alloc_new(a, &ids[i]) != PAGEDB_OK)
      return;
    if (ids[i] == 0 || ids[i] >= pagedb_alloc_high_water(a))
      abort();
    for (int k = 0; k < i; k++)
      if (ids[k] == ids[i])
        abort();
  }
  if (free_before >= MOST)
    abort();
  if (pagedb_alloc_free(a, ids[3]) != PAGEDB_OK ||
      pagedb_alloc_free(a, ids[3]) != PAGEDB_EDOUBLEFREE)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
  fault_store *disk = make_disk(data, n);
  pagedb_alloc *a;
  if (pagedb_alloc_open(fault_store_base(disk), NULL, &a) == PAGEDB_OK) {
    use(a);
    pagedb_alloc_close(a);
  }
  fault_store_free(disk);
  return 0;
}
