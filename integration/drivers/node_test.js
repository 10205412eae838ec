// node-postgres through the proxy: types, named statements, COPY, cancel, errors, many clients at once.
const { Client } = require("pg");
const { from: copyFrom, to: copyTo } = require("pg-copy-streams");
const { pipeline } = require("node:stream/promises");
const { Readable } = require("node:stream");
const assert = require("node:assert");

const [url, seconds = "2"] = process.argv.slice(2);
let count = 0;

function check(got, want, what) {
  assert.deepStrictEqual(got, want, what);
  count += 1;
}

async function value(client, text, values) {
  return (await client.query({ text, values, rowMode: "array" })).rows[0][0];
}

async function types(client) {
  check(await value(client, "SELECT $1::int", [42]), 42, "int");
  check(await value(client, "SELECT $1::text", ["größe '\\"]), "größe '\\", "text");
  check(await value(client, "SELECT $1::bytea", [Buffer.from([0, 255])]), Buffer.from([0, 255]), "bytea");
  check(await value(client, "SELECT $1::jsonb", [{ a: [1, "x"] }]), { a: [1, "x"] }, "jsonb");
  check(await value(client, "SELECT $1::int[]", [[1, 2, 3]]), [1, 2, 3], "array");
  check(await value(client, "SELECT $1::text", [null]), null, "null");
  check(await value(client, "SELECT $1::numeric", ["12345.678900"]), "12345.678900", "numeric");
}

async function named(client) {
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 20; i++) {
      const { rows } = await client.query({ name: `s${i}`, text: `SELECT ${i} + $1::int AS n`, values: [round] });
      check(rows[0].n, i + round, "named");
    }
  }
}

async function copy(client) {
  await client.query("BEGIN; CREATE TEMP TABLE copied (i int) ON COMMIT DROP");
  const lines = Array.from({ length: 5000 }, (_, i) => `${i}\n`);
  await pipeline(Readable.from(lines), client.query(copyFrom("COPY copied FROM STDIN")));
  check(await value(client, "SELECT sum(i)::int FROM copied"), 12497500, "copy in");
  let text = "";
  for await (const chunk of client.query(copyTo("COPY copied TO STDOUT"))) text += chunk;
  check(text.split("\n").length, 5001, "copy out");
  await client.query("COMMIT");
}

async function failures(client) {
  for (const [text, code] of [["SELEC 1", "42601"], ["SELECT 1/0", "22012"], ["SELECT * FROM no_such", "42P01"]]) {
    await assert.rejects(client.query(text), { code }, text);
    check(await value(client, "SELECT 1"), 1, `after ${text}`);
  }
  const pid = client.processID;
  assert(pid > 0);
  const slow = client.query("SELECT pg_sleep(20)");
  setTimeout(() => new Client(url).cancel(client, client.activeQuery ?? client._activeQuery), 300);
  await assert.rejects(slow, { code: "57014" });
  check(await value(client, "SELECT 2"), 2, "after a cancel");
  let heard = null;
  client.once("notice", (n) => (heard = n.message));
  await client.query("DO $$ BEGIN RAISE NOTICE 'hear me'; END $$");
  check(heard, "hear me", "notice");
}

async function one(n, until) {
  const client = new Client(url);
  await client.connect();
  while (Date.now() < until) {
    const { rows } = await client.query({ name: "mine", text: `SELECT ${n} AS n, $1::text AS t`, values: [`client ${n}`] });
    assert.deepStrictEqual(rows[0], { n, t: `client ${n}` });
  }
  await client.end();
}

async function main() {
  const client = new Client(url);
  await client.connect();
  for (const test of [types, named, copy, failures]) await test(client);
  await client.end();
  const until = Date.now() + Number(seconds) * 1000;
  await Promise.all(Array.from({ length: 50 }, (_, n) => one(n, until)));
  count += 1;
  console.log(`${count} checks passed`);
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
