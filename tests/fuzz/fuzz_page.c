/*
** fuzz_page.c - libFuzzer: the record of a page of arbitrary bytes.
**
** Input: a byte of options (page size, placement), a byte of id, then the page.
** Whatever stands in it, verification reads nothing outside the page and says
** the same as a decision made from the decoded record; a page that verifies
** keeps verifying when stamped anew.
*/
#include <stdlib.h>
#include <string.h>

#include "pagedb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int judge(const unsigned char *page, size_t len, uint32_t size,
                 pagedb_placement placement, uint64_t id)
{
  pagedb_record r;
  if (len < size)
    return PAGEDB_ESHORT;
  pagedb_record_get(page, size, placement, &r);
  if (r.magic != PAGEDB_MAGIC)
    return PAGEDB_EMAGIC;
  if (r.version != 1)
    return PAGEDB_EVERSION;
  if (r.crc != pagedb_page_crc(page, size, placement, id))
    return PAGEDB_ECRC;
  return r.page == id ? PAGEDB_OK : PAGEDB_EPAGEID;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
  if (n < 2)
    return 0;
  pagedb_placement placement =
      (data[0] & 0x80) != 0 ? PAGEDB_TRAILING : PAGEDB_LEADING;
  uint32_t size = (placement == PAGEDB_TRAILING ? 512u : 4096u)
                  << (data[0] & 3);
  uint64_t id = data[1], lsn;
  size_t len = n - 2 < size ? n - 2 : size;
  /* Of exactly that length, so that a sanitizer sees the edge. */
  unsigned char *page = malloc(len + (len == 0));
  memcpy(page, data + 2, len);
  if (pagedb_page_verify(page, len, size, placement, id, &lsn) !=
      judge(page, len, size, placement, id))
    abort();
  if (len == size) {
    pagedb_page_stamp(page, size, placement, id, 7);
    if (pagedb_page_verify(page, len, size, placement, id, &lsn) != PAGEDB_OK ||
        lsn != 7)
      abort();
  }
  free(page);
  return 0;
}
