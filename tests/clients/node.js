// The client test for Node's better-sqlite3: node.js PAGEDB.SO, makes node.db.
const Database = require('better-sqlite3');
const assert = require('assert');

new Database(':memory:').loadExtension(process.argv[2]);

const db = new Database('node.db');
const other = new Database('node.db');
db.exec('CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); CREATE TABLE u(a); INSERT INTO u VALUES(1)');
const insert = db.prepare('INSERT INTO t VALUES(?, ?)');
db.transaction(() => {
  for (let i = 1; i <= 500; i++) insert.run(i, 'row ' + i + '0'.repeat(100));
})();
assert.strictEqual(other.prepare('SELECT count(*) FROM t').pluck().get(), 500);
assert.throws(db.transaction(() => {
  db.exec('DELETE FROM t');
  throw new Error('back');
}));
assert.strictEqual(db.pragma('journal_mode=WAL', { simple: true }), 'wal');
other.exec("UPDATE t SET b = b || '!' WHERE a % 3 = 0");
assert.strictEqual(db.prepare("SELECT count(*) FROM t WHERE b LIKE '%!'").pluck().get(), 166);
db.pragma('wal_checkpoint(TRUNCATE)');
other.close();
assert.strictEqual(db.pragma('journal_mode=DELETE', { simple: true }), 'delete');
db.exec('VACUUM');
assert.strictEqual(db.pragma('integrity_check', { simple: true }), 'ok');
assert.strictEqual(db.prepare('SELECT state FROM pagedb_files').pluck().get(), 'stamped');
console.log('SQLite', db.prepare('SELECT sqlite_version()').pluck().get());
