// kafkajs in a group through rebalances, and in transactions.
//
// Arguments: BROKERS. NODE_PATH says where kafkajs is.
'use strict';

const assert = require('node:assert');
const { Kafka, logLevel } = require('kafkajs');

const PARTITIONS = 6;
const PATIENCE = 90000; // bounds every wait, milliseconds

const kafka = new Kafka({
  clientId: 'kafkajs',
  brokers: process.argv[2].split(','),
  logLevel: logLevel.ERROR,
});

const say = (line) => console.log(line);

async function eventually(what, condition) {
  for (const deadline = Date.now() + PATIENCE; !(await condition()); ) {
    assert(Date.now() < deadline, `not within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// Member is a consumer that notes which partitions it has and what it read.
class Member {
  constructor(name, group, seen) {
    this.name = name;
    this.seen = seen;
    this.assigned = [];
    this.consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: 6000,
      rebalanceTimeout: 10000,
      heartbeatInterval: 300,
      maxWaitTimeInMs: 100,
    });
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => {
      this.assigned = Object.values(payload.memberAssignment).flat();
    });
  }

  async start(topic) {
    await this.consumer.connect();
    await this.consumer.subscribe({ topics: [topic], fromBeginning: true });
    await this.consumer.run({
      autoCommitThreshold: 10,
      eachMessage: async ({ message }) => {
        const value = message.value.toString();
        this.seen.set(value, (this.seen.get(value) || 0) + 1);
      },
    });
    return this;
  }

  async leave() {
    this.assigned = [];
    await this.consumer.disconnect();
  }
}

const spread = (...members) =>
  eventually(`${PARTITIONS} partitions are spread over ${members.length} members`, () =>
    members.every((m) => m.assigned.length === PARTITIONS / members.length) &&
    new Set(members.flatMap((m) => m.assigned)).size === PARTITIONS);

const create = (admin, topic, numPartitions) =>
  admin.createTopics({ topics: [{ topic, numPartitions }], waitForLeaders: true });

// A group of kafkajs reads everything while members come and go.
async function group(admin) {
  const topic = 'kafkajs-topic';
  const id = 'kafkajs-group';
  await create(admin, topic, PARTITIONS);
  const producer = kafka.producer();
  await producer.connect();
  let sent = 0;
  let feeding = true;
  const feeder = (async () => {
    for (; feeding; sent++) {
      const message = { value: `r${sent}`, partition: sent % PARTITIONS };
      await producer.send({ topic, messages: [message] });
    }
  })();

  const seen = new Map();
  const a = await new Member('a', id, seen).start(topic);
  await spread(a);
  const b = await new Member('b', id, seen).start(topic);
  await spread(a, b);
  const c = await new Member('c', id, seen).start(topic);
  await spread(a, b, c);
  const { groups } = await admin.describeGroups([id]);
  assert.strictEqual(groups[0].state, 'Stable');
  assert.strictEqual(groups[0].members.length, 3);
  say(`three members have ${[a, b, c].map((m) => `${m.name}[${m.assigned}]`).join(' ')}`);
  await b.leave();
  await spread(a, c);
  say(`b left, now ${[a, c].map((m) => `${m.name}[${m.assigned}]`).join(' ')}`);

  feeding = false;
  await feeder;
  await eventually(`${sent} records are read`, () => seen.size >= sent);
  assert.strictEqual(seen.size, sent);
  await a.leave();
  await c.leave(); // what was read is committed before a member leaves
  const ends = await admin.fetchTopicOffsets(topic);
  const [{ partitions }] = await admin.fetchOffsets({ groupId: id, topics: [topic] });
  for (const { partition, offset } of ends) {
    const committed = partitions.find((p) => p.partition === partition);
    assert.strictEqual(committed.offset, offset, `committed offset of partition ${partition}`);
  }
  const twice = [...seen.values()].filter((n) => n > 1).length;
  say(`${sent} records are read, ${twice} of them again after a rebalance; all is committed`);
  await eventually('the group is empty', async () =>
    (await admin.describeGroups([id])).groups[0].state === 'Empty');
  await admin.deleteGroups([id]);
  assert(!(await admin.listGroups()).groups.some((g) => g.groupId === id), 'the group is listed');
  await producer.disconnect();
}

// Records and offsets of a transaction come together or not at all.
async function transactions(admin) {
  const topic = 'kafkajs-transactions';
  const id = 'kafkajs-transactions-group';
  await create(admin, topic, 1);
  const producer = kafka.producer({
    transactionalId: 'kafkajs', maxInFlightRequests: 1, idempotent: true,
  });
  await producer.connect();
  for (let i = 0; i < 4; i++) {
    const t = await producer.transaction();
    await t.send({ topic, messages: [{ value: `t${i}` }] });
    await t.sendOffsets({
      consumerGroupId: id,
      topics: [{ topic, partitions: [{ partition: 0, offset: String(i) }] }],
    });
    await (i % 2 === 0 ? t.commit() : t.abort());
  }
  await producer.disconnect();
  const [{ partitions }] = await admin.fetchOffsets({ groupId: id, topics: [topic] });
  assert.strictEqual(partitions[0].offset, '2', 'offset of the last committed transaction');

  const values = [];
  const consumer = kafka.consumer({ groupId: 'kafkajs-reader', maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message }) => { values.push(message.value.toString()); },
  });
  await eventually('both committed records are read', () => values.length >= 2);
  await consumer.disconnect();
  assert.deepStrictEqual(values, ['t0', 't2']);
  say('two of four transactions were committed, and two records and their offset are there');
}

async function main() {
  const admin = kafka.admin();
  await admin.connect();
  await group(admin);
  await transactions(admin);
  await admin.disconnect();
  say('kafkajs: done');
}

main().then(() => process.exit(0), (err) => {
  console.error(err);
  process.exit(1);
});
