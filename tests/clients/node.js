// The client test for Node's better-sqlite3: node.js PAGEDB.SO, makes node.db and node.content.
const Database = require('better-sqlite3');
const assert = require('assert');
const fs = require('fs');

const NAME = 'node.db';
const NOT_OK = "SELECT count(*) FROM pagedb_pages WHERE status NOT IN ('ok', 'lock')";
const SUM_T = 'SELECT sum(length(b)) FROM t';
const SUM_U = 'SELECT sum(a) FROM u';
const value = (db, sql) => db.prepare(sql).pluck().get();
const expect = (db, sql, wanted) => assert.strictEqual(value(db, sql), wanted, sql);

function flip(at) {
  const fd = fs.openSync(NAME, 'r+');
  const byte = Buffer.alloc(1);
  fs.readSync(fd, byte, 0, 1, at);
  byte[0] ^= 0xff;
  fs.writeSync(fd, byte, 0, 1, at);
  fs.closeSync(fd);
}

const loader = new Database(':memory:');
loader.loadExtension(process.argv[2]);
console.log('SQLite', value(loader, 'SELECT sqlite_version()'));

let db = new Database(NAME, { timeout: 0 });
db.exec('CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u(a); INSERT INTO u VALUES(1)');
expect(db, 'SELECT state FROM pagedb_files', 'stamped');
const insert = db.prepare('INSERT INTO t VALUES(?, ?)');
db.transaction(() => {
  for (let i = 1; i <= 500; i++) insert.run(i, 'row ' + i + '0'.repeat(100));
  db.exec("UPDATE t SET b = b || '?' WHERE a % 5 = 0");
})();
assert.throws(db.transaction(() => {
  db.exec('DELETE FROM t');
  expect(db, 'SELECT count(*) FROM t', 0);
  throw new Error('back');
}), { message: 'back' });
expect(db, "SELECT count(*) FROM t WHERE b LIKE '%?'", 100);

// Two connections: what one commits the other sees, and one writes at a time.
const other = new Database(NAME, { timeout: 0 });
expect(other, 'SELECT count(*) FROM t', 500);
other.transaction(() => {
  assert.throws(() => db.exec('INSERT INTO u VALUES(9)'), { code: 'SQLITE_BUSY' });
  other.exec('INSERT INTO u VALUES(2)');
}).immediate();
expect(db, SUM_U, 3);

expect(db, 'PRAGMA journal_mode=WAL', 'wal');
other.exec("UPDATE t SET b = b || '!' WHERE a % 3 = 0");
expect(db, "SELECT count(*) FROM t WHERE b LIKE '%!'", 166);
expect(db, 'PRAGMA wal_checkpoint(TRUNCATE)', 0);
other.close();
expect(db, 'PRAGMA journal_mode=DELETE', 'delete');

db.exec('DELETE FROM t WHERE a > 400');
db.exec('VACUUM');
expect(db, 'PRAGMA integrity_check', 'ok');
expect(db, NOT_OK, 0);
expect(db, 'SELECT state FROM pagedb_files', 'stamped');
const rows = [...db.prepare('SELECT a, b FROM t ORDER BY a').raw().all(),
  ...db.prepare('SELECT a FROM u ORDER BY a').raw().all()];
fs.writeFileSync('node.content', rows.map((row) => row.join('|') + '\n').join(''));

// Damage: one byte in the middle of the second leaf of t, the file closed.
const length = value(db, SUM_T);
const page = value(db, "SELECT page FROM pagedb_pages WHERE object = 'table t' AND type = 'table leaf' LIMIT 1 OFFSET 1");
const size = value(db, 'PRAGMA page_size');
const middle = (page - 1) * size + size / 2;
db.close();
flip(middle);
db = new Database(NAME);
assert.throws(() => value(db, SUM_T), { code: 'SQLITE_IOERR_DATA', message: 'disk I/O error' });
expect(db, SUM_U, 3);
expect(db, "SELECT group_concat(page) FROM pagedb_pages WHERE status = 'bad crc'", String(page));
db.close();

flip(middle);
db = new Database(NAME);
expect(db, SUM_T, length);
expect(db, 'PRAGMA integrity_check', 'ok');
expect(db, NOT_OK, 0);
db.close();
