/*
** page.c - the 32-byte record of a page: decode, stamp, verify.
**
** Owns nothing, keeps no state, takes no lock. The layout is that of
** docs/format.md; the CRC covers the whole page but its own four bytes.
*/
#include "endian.h"
#include "guard.h"
#include "pagedb.h"

/* Offsets in the record. */
enum {
  AT_MAGIC = 0,
  AT_VERSION = 4,
  AT_FLAGS = 6,
  AT_PAGE = 8,
  AT_LSN = 16,
  AT_CRC = 24,
  AT_RESERVED = 28
};

int pagedb_page_size_ok(uint32_t size, pagedb_placement placement)
{
  uint32_t least = placement == PAGEDB_TRAILING ? 512 : 4096;
  uint32_t most = placement == PAGEDB_TRAILING ? 65536 : 1048576;
  return size >= least && size <= most && (size & (size - 1)) == 0;
}

int pagedb_is_lock_page(uint64_t id, uint32_t size)
{
  return id == PAGEDB_LOCK_BYTE / size;
}

static uint32_t record_at(uint32_t size, pagedb_placement placement)
{
  return placement == PAGEDB_TRAILING ? size - PAGEDB_RECORD_SIZE : 0;
}

void pagedb_record_get(const void *page, uint32_t size,
                       pagedb_placement placement, pagedb_record *out)
{
  const unsigned char *r =
      (const unsigned char *)page + record_at(size, placement);
  out->magic = get_le32(r + AT_MAGIC);
  out->version = get_le16(r + AT_VERSION);
  out->flags = get_le16(r + AT_FLAGS);
  out->page = get_le64(r + AT_PAGE);
  out->lsn = get_le64(r + AT_LSN);
  out->crc = get_le32(r + AT_CRC);
  out->reserved = get_le32(r + AT_RESERVED);
}

uint32_t pagedb_page_crc(const void *page, uint32_t size,
                         pagedb_placement placement, uint64_t id)
{
  const unsigned char *p = page;
  uint32_t at = record_at(size, placement) + AT_CRC;
  uint32_t from = 0;
  uint32_t crc = pagedb_crc32c_init();
  if (placement == PAGEDB_TRAILING && id == 0 && guard_is_set(p[GUARD_AT])) {
    unsigned char plain = unguarded(p[GUARD_AT]);
    crc = pagedb_crc32c_update(crc, p, GUARD_AT);
    crc = pagedb_crc32c_update(crc, &plain, 1);
    from = GUARD_AT + 1;
  }
  crc = pagedb_crc32c_update(crc, p + from, at - from);
  crc = pagedb_crc32c_update(crc, p + at + 4, size - at - 4);
  return pagedb_crc32c_final(crc);
}

void pagedb_page_stamp(void *page, uint32_t size, pagedb_placement placement,
                       uint64_t id, uint64_t lsn)
{
  unsigned char *r = (unsigned char *)page + record_at(size, placement);
  put_le32(r + AT_MAGIC, PAGEDB_MAGIC);
  put_le16(r + AT_VERSION, PAGEDB_VERSION_1);
  put_le16(r + AT_FLAGS,
           placement == PAGEDB_TRAILING ? PAGEDB_FLAG_TRAILING : 0);
  put_le64(r + AT_PAGE, id);
  put_le64(r + AT_LSN, lsn);
  put_le32(r + AT_RESERVED, 0);
  put_le32(r + AT_CRC, pagedb_page_crc(page, size, placement, id));
}

static int bad(int err, uint64_t id, uint64_t found, uint64_t expected)
{
  return pagedb_fault_set(err, 0, NULL, id, found, expected, NULL);
}

int pagedb_page_verify(const void *page, size_t len, uint32_t size,
                       pagedb_placement placement, uint64_t id, uint64_t *lsn)
{
  pagedb_record r;
  if (len < size)
    return bad(PAGEDB_ESHORT, id, len, size);
  pagedb_record_get(page, size, placement, &r);
  if (r.magic != PAGEDB_MAGIC)
    return bad(PAGEDB_EMAGIC, id, r.magic, PAGEDB_MAGIC);
  if (r.version != PAGEDB_VERSION_1)
    return bad(PAGEDB_EVERSION, id, r.version, PAGEDB_VERSION_1);
  uint32_t crc = pagedb_page_crc(page, size, placement, id);
  if (r.crc != crc)
    return bad(PAGEDB_ECRC, id, r.crc, crc);
  if (r.page != id)
    return bad(PAGEDB_EPAGEID, id, r.page, id);
  if (lsn != NULL)
    *lsn = r.lsn;
  return PAGEDB_OK;
}
