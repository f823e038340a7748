// Mail processes: ask, lock, offer, commit; each step may be the last one. And the snapshots that workers originate.
#include "tests/unit/model/world.hpp"
#include <algorithm>

namespace replica::model {

void World::new_operation() {
    if (clients.size() > 6) return;
    int store = static_cast<int>(random(stores.size()));
    Agent &agent = *agents[static_cast<size_t>(store)];
    auto &memory = stores[static_cast<size_t>(store)].memory;
    if (!agent.alive || !agent.ship) return;
    Client client{.id = ++ids, .store = store};
    size_t what = random(20);
    if (what == 0) {
        client.fact = {plain::Fact::create, static_cast<int>(++ids)};
    } else if (!memory.boxes.empty()) {
        client.fact.box = std::next(memory.boxes.begin(), static_cast<long>(random(memory.boxes.size())))->first;
        client.fact.kind = what == 1 && memory.boxes.size() > 2 ? plain::Fact::remove : plain::Fact::op;
    } else {
        return;
    }
    client.lock = client.fact.kind == plain::Fact::op ? client.fact.box : 0;
    Mark mark = client.lock == 0 ? memory.list : memory.boxes[client.lock].mark;
    clients[client.id] = client;
    agent.ship->clear(now, client.id, {1, "u", object_of(client.lock), mark});
}

void World::take_snapshot(int store, const WorkerRequest &request, Effects::WorkerDone done) {
    Client client{.state = Client::cleared, .id = ++ids, .store = store};
    auto *mailbox = std::get_if<SnapshotMailbox>(&request);
    client.fact.kind = mailbox ? plain::Fact::snapshot : plain::Fact::list_snapshot;
    client.lock = client.fact.box = mailbox ? box_of(mailbox->object) : 0;
    if (mailbox) client.fact.snapshot_id = std::string(mailbox->snapshot.view());
    client.snapshot_done = std::move(done);
    clients[client.id] = std::move(client);
}

void World::client_step() {
    if (clients.empty()) return;
    auto next = clients.lower_bound(random(ids + 1));
    if (next == clients.end()) next = clients.begin();
    step_client(next->second);
}

void World::step_client(Client &client) {
    Agent &agent = *agents[static_cast<size_t>(client.store)];
    bool connected = agent.ship && !client.agent_gone;
    if (client.refused || (!connected && client.state != Client::acked)) return end(client.id);
    Store &store = stores[static_cast<size_t>(client.store)];
    switch (client.state) {
    case Client::asking:
    case Client::waiting:
        return;
    case Client::cleared:
        if (store.locks.contains(client.lock)) return;
        if (!make_change(client)) return end(client.id, Verdict::skipped);
        store.locks[client.lock] = client.id;
        client.holds_lock = true;
        client.state = Client::waiting;
        return agent.offer(client.id, {2, "u", client.change});
    case Client::acked:
        return commit(client);
    case Client::streaming:
        in_flight[agent.session].push_back({control.places.at(client.number.epoch).store,
                                            {{},
                                             0,
                                             {},
                                             {client.number.epoch, 0},
                                             agent.session,
                                             {RecordKind::bulk, {}, {}, encode(client.bulk.front())}}});
        client.bulk.pop_front();
        if (client.bulk.empty()) end(client.id, Verdict::applied);
    }
}

// Under the lock: what the change is, now that nobody else can come between. False: there is nothing to do.
bool World::make_change(Client &client) {
    Index &memory = stores[static_cast<size_t>(client.store)].memory;
    plain::Fact &fact = client.fact;
    Change &change = client.change;
    change.object = object_of(client.lock);
    if (fact.kind == plain::Fact::create || fact.kind == plain::Fact::remove) {
        if ((fact.kind == plain::Fact::remove) != memory.boxes.contains(fact.box)) return false;
        change.kind = fact.kind == plain::Fact::create ? ChangeKind::list_create : ChangeKind::list_delete;
        change.subject = object_of(fact.box).mailbox;
        change.previous = memory.list.number;
        return true;
    }
    if (fact.kind == plain::Fact::list_snapshot) {
        for (const auto &[id, box] : memory.boxes)
            fact.boxes.insert(id);
        change.kind = ChangeKind::list_snapshot;
        change.payload = payload(fact.boxes);
        change.previous = memory.list.number;
        return true;
    }
    auto there = memory.boxes.find(fact.box);
    if (there == memory.boxes.end()) return false;
    auto &[box, mark] = there->second;
    change.previous = mark.number;
    if (fact.kind == plain::Fact::snapshot) {
        fact.unknown_before = mark.unlogged || mark.number.none();
        if (fact.unknown_before) stores[static_cast<size_t>(client.store)].disk.boxes[fact.box] = there->second;
        change.kind = ChangeKind::snapshot;
        change.payload = encode(SnapshotChange{SnapshotId::from(fact.snapshot_id.data()), mark.unlogged});
        return true;
    }
    if (mark.unlogged) return false; // cleared before: it asks again, and a snapshot comes first
    fact.what.kind = box.mails.empty() || chance(50) ? plain::Op::save
                     : chance(70)                    ? plain::Op::raise
                                                     : plain::Op::expunge;
    if (fact.what.kind == plain::Op::save)
        fact.what = {plain::Op::save, box.next_uid, ++ids};
    else
        fact.what.uid = std::next(box.mails.begin(), static_cast<long>(random(box.mails.size())))->first;
    change.payload = payload(fact.what);
    return true;
}

void World::answered(int store, ClientId id, const AgentFrame &frame) {
    auto found = clients.find(id);
    if (found == clients.end()) return;
    Client &client = found->second;
    if (auto *answer = std::get_if<Answer>(&frame)) {
        if (client.state == Client::asking && answer->reason == Reason::none)
            client.state = Client::cleared;
        else
            client.refused = true;
    } else if (auto *ack = std::get_if<Ack>(&frame)) {
        check_ack(store, ack->number, client);
        client.number = ack->number;
        client.state = Client::acked;
    } else {
        client.refused = true;
    }
}

// The source's own commit, after the ACK. It may die before, between and after its steps.
void World::commit(Client &client) {
    Agent &agent = *agents[static_cast<size_t>(client.store)];
    Store &store = stores[static_cast<size_t>(client.store)];
    Index &memory = store.memory;
    bool fails = faults_ && chance(4), dies_before = faults_ && chance(4), dies_between = faults_ && chance(4),
         dies_after = faults_ && chance(4);
    tell(client.store, "commit " + to_string(client.number) + " of " + std::to_string(client.id) +
                           (dies_before    ? " dies before"
                            : fails        ? " fails"
                            : dies_between ? " dies between"
                            : dies_after   ? " dies after"
                                           : ""));
    if (dies_before) return kill(client.id);
    if (!fails) {
        if (client.fact.kind == plain::Fact::create) memory.boxes[client.fact.box].mark = {client.number};
        if (client.fact.kind == plain::Fact::remove) memory.boxes.erase(client.fact.box);
        if (dies_between && client.lock == 0) return kill(client.id);
        auto there = memory.boxes.find(client.lock);
        if (client.lock == 0) {
            memory.list = {client.number};
        } else if (there == memory.boxes.end()) {
            fails = true; // deleted meanwhile
        } else if (client.fact.kind == plain::Fact::snapshot) {
            there->second.mark = {client.number};
            freeze(client, there->second.box);
            store.disk.boxes[client.lock] = there->second;
        } else {
            there->second.box.apply(client.fact.what);
            there->second.mark.number = client.number;
        }
    }
    store.locks.erase(client.lock);
    client.holds_lock = false;
    if (dies_after) return kill(client.id);
    if (agent.ship && !client.agent_gone) agent.ship->done(now, client.id, {2, !fails});
    if (!fails) acknowledged_.emplace_back(client.number, client.fact);
    if (client.snapshot_done && !client.bulk.empty() && !fails)
        client.state = Client::streaming;
    else
        end(client.id, fails ? Verdict::retry : Verdict::applied);
}

// The content of a snapshot, in a few parts.
void World::freeze(Client &client, const plain::Box &box) {
    frozen_[client.fact.snapshot_id] = box;
    Bulk part{client.change.object, SnapshotId::from(client.fact.snapshot_id.data()), 0, {}, {}, {}};
    part.head = Bulk::Head{1, box.next_uid, box.changes, box.mails.size(), {}};
    for (const auto &[uid, mail] : box.mails) {
        Append append;
        append.uid = uid;
        memcpy(append.guid.bytes.data(), &mail.id, sizeof mail.id);
        append.modseq = mail.raised;
        mails_[append.guid] = mail.id;
        part.mails.push_back(append);
        if (part.mails.size() < 3) continue;
        client.bulk.push_back(part);
        part = {part.object, part.id, part.n + 1, {}, {}, {}};
    }
    part.sum = Bulk::Sum{box.mails.size(), {}};
    client.bulk.push_back(part);
}

// The process ends, and with it its connection and its lock.
void World::end(ClientId id, Verdict verdict) {
    auto found = clients.find(id);
    Client client = std::move(found->second);
    clients.erase(found);
    if (client.holds_lock) stores[static_cast<size_t>(client.store)].locks.erase(client.lock);
    Agent &agent = *agents[static_cast<size_t>(client.store)];
    if (agent.ship && !client.agent_gone) agent.ship->client_gone(now, id);
    if (client.snapshot_done) client.snapshot_done(Reply{.verdict = verdict});
}

void World::kill(ClientId id) { end(id, Verdict::retry); }

// Something changes a mailbox past the log: the plugin is not loaded.
void World::unlogged_commit() {
    if (promoting_ || !control.active) return;
    Store &store = stores[static_cast<size_t>(control.source)];
    Agent &agent = *agents[static_cast<size_t>(control.source)];
    // With a change in doubt the mailbox would rightly be called diverged, and stay so: an administrator's case.
    if (store.memory.boxes.empty() || !agent.ready() || !agent.ship->idle()) return;
    auto there = std::next(store.memory.boxes.begin(), static_cast<long>(random(store.memory.boxes.size())));
    if (store.locks.contains(there->first)) return;
    auto &[box, mark] = there->second;
    tell(control.source, "unlogged save " + std::to_string(box.next_uid) + " in " + std::to_string(there->first));
    box.apply({plain::Op::save, box.next_uid, ++ids});
    if (!mark.number.none()) mark.unlogged = true;
}

} // namespace replica::model
