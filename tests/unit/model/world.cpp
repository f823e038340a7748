// The queue, the control log, promotions, faults, and the properties at the end of a run.
#include "tests/unit/model/world.hpp"
#include <algorithm>

namespace replica::model {

using plain::require;

static plain::Number pair_of(const Number &number) { return {number.epoch, number.sequence}; }

World::World(uint64_t seed, Bug planted, int count)
    : bug(planted), logs(count), stores(count), random_(seed), lines_(count) {
    Record open{RecordKind::open, {}, Open{{}, {place_name(0), 0}}, {}};
    append(0, {{}, 0, {}, {1, 0}, {}, open});
    control.places[1] = {0, 0};
    for (int box : {1, 2, 3}) { // mail from before there was a replica
        stores[0].memory.boxes[box].box.apply({plain::Op::save, 1, ++ids});
        stores[0].memory.boxes[box].box.apply({plain::Op::save, 2, ++ids});
    }
    stores[0].disk = stores[0].memory;
    for (int store = 0; store < count; ++store) {
        stores[static_cast<size_t>(store)].stored = {{1, 0}, true, 0, 1, store != 0, {}};
        agents.push_back(std::make_unique<Agent>(*this, store));
        agents.back()->start();
    }
}

void World::tell(int store, const std::string &what) const {
    if (traced_) std::fprintf(stderr, "store%d %s\n", store, what.c_str());
}

static std::string in_words(const plain::Fact &fact) {
    static constexpr const char *kinds[] = {"op", "SNAPSHOT", "CREATE", "DELETE", "LIST"},
                                *ops[] = {"save", "raise", "expunge"};
    std::string text =
        fact.kind == plain::Fact::op ? ops[fact.what.kind] + (" " + std::to_string(fact.what.uid)) : kinds[fact.kind];
    return text + " in " + std::to_string(fact.box) + (fact.unknown_before ? " (unlogged)" : "");
}

// --- the queue ---

void World::append(int place, Entry entry) {
    auto at = static_cast<size_t>(place);
    entry.place = {place_name(place), 0};
    entry.offset = static_cast<int64_t>(logs[at].size());
    plain::Line line{plain::Line::bulk, entry.number.epoch, entry.number.sequence, 0, 0, {}};
    switch (entry.record.kind) {
    case RecordKind::open:
        line.kind = plain::Line::open;
        line.previous_epoch = entry.record.open->previous.epoch;
        line.previous_sequence = entry.record.open->previous.sequence;
        break;
    case RecordKind::fence:
        line.kind = plain::Line::fence;
        break;
    case RecordKind::changes:
        line.kind = plain::Line::changes;
        for (const auto &change : entry.record.changes)
            line.facts.push_back(fact_of(change));
        break;
    case RecordKind::bulk:
        break;
    }
    static constexpr const char *kinds[] = {"OPEN", "changes", "FENCE", "bulk"};
    std::string text = std::string("log ") + kinds[line.kind] + " " + to_string(entry.number) + " life " +
                       std::to_string(*reinterpret_cast<const uint64_t *>(entry.session.bytes.data()));
    for (const auto &fact : line.facts)
        text += ", " + in_words(fact);
    tell(place, text);
    lines_[at].push_back(std::move(line));
    logs[at].push_back(std::move(entry));
}

plain::Fact World::fact_of(const Change &change) {
    plain::Fact fact;
    fact.box = box_of(change.object);
    switch (change.kind) {
    case ChangeKind::mailbox:
        fact.what = op_of(change);
        break;
    case ChangeKind::snapshot: {
        auto snapshot = decode<SnapshotChange>(change.payload);
        fact.kind = plain::Fact::snapshot;
        fact.snapshot_id = std::string(snapshot->id.view());
        fact.unknown_before = snapshot->unlogged || change.previous.none();
        break;
    }
    case ChangeKind::list_snapshot:
        fact.kind = plain::Fact::list_snapshot;
        fact.boxes = boxes_of(change);
        break;
    default:
        fact.kind = change.kind == ChangeKind::list_create ? plain::Fact::create : plain::Fact::remove;
        fact.box = box_of({"", change.subject});
    }
    return fact;
}

// The oldest record in flight of some session arrives; or is lost; or arrives twice.
void World::deliver() {
    std::erase_if(in_flight, [](const auto &stream) { return stream.second.empty(); });
    if (in_flight.empty()) return;
    auto &[session, stream] = *std::next(in_flight.begin(), static_cast<long>(random(in_flight.size())));
    auto [place, entry] = std::move(stream.front());
    stream.pop_front();
    if (faults_ && entry.record.kind == RecordKind::changes && chance(5)) return;
    append(place, entry);
    if (bug == Bug::ack_on_delivery && entry.record.kind == RecordKind::changes)
        for (auto &agent : agents)
            if (agent->ready() && agent->session == session)
                agent->ship->counted(now, logs[static_cast<size_t>(place)].back());
    if (faults_ && chance(10))
        append(place, logs[static_cast<size_t>(place)][random(logs[static_cast<size_t>(place)].size())]);
}

// A former life's record with the number that an agent is about to use, valid and in time.
void World::plant_foreign() {
    Agent &agent = *agents[static_cast<size_t>(control.source)];
    if (!agent.ready() || agent.unsettled().empty()) return;
    auto [number, produced] = *agent.unsettled().begin();
    auto &log = lines_[static_cast<size_t>(produced.first)];
    if (plain::counting(log, pair_of(number), plain::Line::changes) ||
        plain::counting(log, {number.epoch, 0}, plain::Line::open) == nullptr)
        return;
    std::map<int, Number> last; // of each mailbox that the log knows to be there
    std::map<int, uint32_t> next_uid;
    for (uint64_t s = 1; s < number.sequence; ++s) {
        const auto *line = plain::counting(log, {number.epoch, s}, plain::Line::changes);
        if (line == nullptr) return;
        for (const auto &fact : line->facts) {
            if (fact.kind == plain::Fact::remove) last.erase(fact.box);
            if (fact.kind != plain::Fact::op || !agent.reader) continue;
            last[fact.box] = {number.epoch, s};
            if (fact.what.kind == plain::Op::save) next_uid[fact.box] = fact.what.uid + 1;
        }
        for (const auto &fact : line->facts)
            if (fact.kind == plain::Fact::snapshot || fact.kind == plain::Fact::create) last.erase(fact.box);
    }
    if (last.empty()) return;
    auto [box, previous] = *std::next(last.begin(), static_cast<long>(random(last.size())));
    if (!next_uid.contains(box) || stores[static_cast<size_t>(control.source)].memory.boxes[box].mark.unlogged) return;
    Change change{
        object_of(box), ChangeKind::mailbox, {}, previous, payload(plain::Op{plain::Op::save, next_uid[box], ++ids})};
    uint64_t life = ++ids;
    append(produced.first, {{}, 0, {}, number, Session::from(&life), {RecordKind::changes, {change}, {}, {}}});
}

// --- faults ---

void World::worker_dies(int store) {
    tell(store, "worker dies");
    std::deque<Request> lost;
    for (auto &request : requests)
        if (request.store == store) lost.push_back(std::move(request));
    std::erase_if(requests, [&](const Request &request) { return request.store == store; });
    std::vector<ClientId> snapshots;
    for (const auto &[id, client] : clients)
        if (client.store == store && client.snapshot_done) snapshots.push_back(id);
    stores[static_cast<size_t>(store)].collecting.clear();
    for (auto id : snapshots)
        kill(id);
    Agent &agent = *agents[static_cast<size_t>(store)];
    if (agent.alive && agent.follow && chance(50)) agent.follow->worker_lost(now);
    for (auto &request : lost)
        request.done(Reply{.verdict = Verdict::retry});
    if (agent.alive && agent.follow) agent.follow->worker_lost(now);
}

void World::power_loss(int at) {
    tell(at, "power loss");
    Store &store = stores[static_cast<size_t>(at)];
    agents[static_cast<size_t>(at)]->crash();
    std::vector<ClientId> dead;
    for (const auto &[id, client] : clients)
        if (client.store == at) dead.push_back(id);
    for (auto id : dead)
        kill(id);
    std::erase_if(requests, [&](const Request &request) { return request.store == at; });
    store.collecting.clear();
    store.memory = store.disk;
}

void World::fault_step() {
    int store = static_cast<int>(random(stores.size()));
    Agent &agent = *agents[static_cast<size_t>(store)];
    switch (random(10)) {
    case 0:
    case 1:
        return agent.alive ? agent.crash() : agent.start();
    case 2:
        return power_loss(store);
    case 3:
        return worker_dies(store);
    case 4:
        if (!clients.empty()) kill(std::next(clients.begin(), static_cast<long>(random(clients.size())))->first);
        return;
    case 5:
        return plant_foreign();
    case 6: // a fence that closes nothing
        return append(store, {{}, 0, {}, {1, 0}, {}, {RecordKind::fence, {}, {}, {}}});
    case 7:
        if (agent.alive && chance(50)) {
            agent.flush_and_store(true);
            power_loss(store);
        }
        return;
    case 8:
        return unlogged_commit();
    case 9: // what a dead session had in flight never arrives
        std::erase_if(in_flight, [&](const auto &stream) {
            return chance(50) &&
                   std::ranges::none_of(agents, [&](auto &a) { return a->alive && a->session == stream.first; });
        });
    }
}

// --- control ---

void World::begin_promotion() {
    int target = static_cast<int>(random(stores.size()));
    Agent &agent = *agents[static_cast<size_t>(target)];
    if (promoting_ && agents[static_cast<size_t>(control.source)]->alive) return;
    if (target == control.source || !agent.alive || !agent.follow ||
        agent.follow->phase() != DestinationPhase::complete)
        return;
    for (const auto &store : stores)
        for (const Index *index : {&store.memory, &store.disk})
            for (const auto &[id, box] : index->boxes)
                if (box.mark.unlogged) return;
    // It counts as unlogged until the destination has the snapshot, too: the bulk would end at the fence.
    for (const auto &log : lines_)
        for (const auto &line : log)
            for (const auto &fact : line.facts)
                if (fact.unknown_before && agent.follow->applied() < Number{line.epoch, line.sequence}) return;
    for (auto place = control.places.lower_bound(opened_epoch_); place != control.places.end(); ++place)
        unfenced_.insert(place->second.store);
    control.epoch++;
    control.source = target;
    control.active = false;
    control.places[control.epoch] = {target, logs[static_cast<size_t>(target)].size()};
    promoting_ = true;
    open_sent_ = false;
    tell(target, "promotion to epoch " + std::to_string(control.epoch));
}

void World::go_on_with_promotion() {
    if (!promoting_) return;
    Agent &agent = *agents[static_cast<size_t>(control.source)];
    auto fence_one = [&] {
        append(*unfenced_.begin(), {{}, 0, {}, {control.epoch, 0}, agent.session, {RecordKind::fence, {}, {}, {}}});
        unfenced_.erase(unfenced_.begin());
    };
    if (!agent.alive) {
        open_sent_ = false;
        return;
    }
    if (!unfenced_.empty() && bug != Bug::no_fence_read_back) return fence_one();
    if (agent.reader->epoch() == control.epoch && agent.reader->opened()) {
        while (!unfenced_.empty())
            fence_one();
        control.active = true;
        opened_epoch_ = control.epoch;
        promoting_ = false;
    } else if (!open_sent_ && agent.drained()) {
        require(agent.follow->phase() == DestinationPhase::complete,
                "a complete destination is not complete at the fence");
        if (agent.reader->epoch() != control.epoch) agent.cross(control.epoch);
        agent.flush_and_store(false);
        Record open{RecordKind::open, {}, Open{agent.follow->applied(), {place_name(control.source), 0}}, {}};
        in_flight[agent.session].push_back({control.source, {{}, 0, {}, {control.epoch, 0}, agent.session, open}});
        open_sent_ = true;
    }
}

// What destinations publish reaches the source; and the source's agent hears of what is unlogged there.
void World::tell_wants() {
    Agent &source = *agents[static_cast<size_t>(control.source)];
    if (source.ready() && chance(20))
        for (const auto &[id, box] : stores[static_cast<size_t>(control.source)].memory.boxes)
            if (box.mark.unlogged) source.ship->snapshot(now, object_of(id));
    for (auto &destination : agents) {
        if (!destination->alive || !destination->follow) continue;
        DestinationState state;
        destination->follow->describe(state);
        for (auto &agent : agents)
            if (agent->ready()) agent->destination_says(state);
    }
}

// --- steps ---

void World::everyday_step() {
    now += std::chrono::milliseconds(random(50));
    Agent &agent = *agents[random(agents.size())];
    switch (random(8)) {
    case 0:
        return new_operation();
    case 1:
    case 2:
        return client_step();
    case 3:
        return deliver();
    case 4:
        return worker_step();
    case 5:
        return go_on_with_promotion();
    case 6:
        if (agent.alive)
            agent.tick();
        else if (chance(40))
            agent.start();
        return;
    case 7:
        if (agent.alive) agent.read_one();
    }
}

void World::step() {
    everyday_step();
    if (chance(3)) fault_step();
    if (chance(3)) tell_wants();
    Agent &agent = *agents[random(agents.size())];
    if (chance(2) && agent.alive) agent.flush_and_store(false);
    if (chance(1) && agent.alive) agent.resend();
    if (chance(1)) begin_promotion();
}

void World::settle() {
    faults_ = false;
    for (int quiet = 0, round = 0; quiet < 5; ++round) {
        require(round < 2000, "it does not come to rest: " + what_moves());
        now += 300ms;
        for (auto &agent : agents) {
            if (!agent->alive) agent->start();
            if (round % 20 == 0) agent->resend();
            for (int n = 0; n < 50; ++n)
                agent->read_one();
            agent->tick();
        }
        tell_wants();
        go_on_with_promotion();
        for (int n = 0; n < 20; ++n) {
            deliver();
            worker_step();
            client_step();
        }
        quiet = what_moves().empty() ? quiet + 1 : 0;
    }
    faults_ = true;
}

std::string World::what_moves() const {
    std::string text;
    if (promoting_)
        text += " promotion to " + std::to_string(control.source) + " epoch " + std::to_string(control.epoch);
    if (!clients.empty()) text += " clients=" + std::to_string(clients.size());
    if (!requests.empty()) text += " requests";
    for (const auto &[session, stream] : in_flight)
        if (!stream.empty()) text += " records";
    for (const auto &[id, box] : stores[static_cast<size_t>(control.source)].memory.boxes)
        if (box.mark.unlogged) text += " unlogged";
    for (size_t i = 0; i < agents.size(); ++i) {
        const Agent &agent = *agents[i];
        std::string name = " store" + std::to_string(i) + ":";
        if (!agent.alive || !agent.at_end())
            text += name + "reading epoch " + std::to_string(agent.reader->epoch()) + " at " +
                    to_string(agent.reader->position());
        if (agent.ship && !agent.ship->idle()) text += name + "shipping";
        if (agent.ship && !agent.ship->problem().empty()) text += name + agent.ship->problem();
        if (!agent.follow) continue;
        if (!agent.follow->idle()) text += name + "applying";
        if (agent.follow->phase() != DestinationPhase::complete)
            text += name + std::string(to_string(agent.follow->phase())) + " " + agent.follow->reason();
    }
    return text;
}

// --- the properties ---

void World::check_ack(int store, const Number &number, const Client &client) const {
    const auto *line = plain::counting(lines_[static_cast<size_t>(store)], pair_of(number), plain::Line::changes);
    tell(store, "ACK " + to_string(number) + " " + in_words(client.fact) + " to " + std::to_string(client.id));
    require(line != nullptr && std::ranges::count(line->facts, client.fact) == 1,
            "an ACK for what does not count, " + to_string(number) + " at store " + std::to_string(store));
}

void World::check_stores() {
    std::map<uint64_t, int> place_of;
    for (const auto &[epoch, place] : control.places)
        place_of[epoch] = place.store;
    auto truth = plain::replay(lines_, place_of, opened_epoch_, frozen_);
    for (const auto &[number, fact] : acknowledged_) {
        auto line = truth.counted.find(pair_of(number));
        require(line != truth.counted.end() && std::ranges::count(line->second->facts, fact) == 1,
                "acknowledged, and lost: " + to_string(number));
    }
    for (size_t i = 0; i < stores.size(); ++i) {
        plain::Boxes boxes;
        for (const auto &[id, box] : stores[i].memory.boxes)
            boxes[id] = box.box;
        for (const auto &[id, box] : truth.boxes)
            require(boxes.contains(id) && boxes[id] == box,
                    "store " + std::to_string(i) + ": mailbox " + std::to_string(id) + " is not what the log says");
        require(boxes.size() == truth.boxes.size(),
                "store " + std::to_string(i) + " has a mailbox that the log has not");
    }
}

void World::promote_and_check() {
    settle();
    check_stores();
    for (int tries = 0; tries < 20 && !promoting_; ++tries)
        begin_promotion();
    settle();
    check_stores();
}

void World::lose_a_record() {
    settle();
    // A destination that was at `before` reads on behind a record that the queue has lost.
    size_t lost = 0;
    auto place = static_cast<size_t>(control.places[control.epoch].store);
    for (size_t i = 0; i + 1 < lines_[place].size(); ++i)
        if (lines_[place][i].kind == plain::Line::changes && lines_[place][i].epoch == control.epoch && chance(30))
            lost = i;
    const plain::Line &line = lines_[place][lost];
    bool more = plain::counting(lines_[place], {line.epoch, line.sequence + 1}, plain::Line::changes) != nullptr;
    if (lost == 0 || !more ||
        plain::counting(lines_[place], {line.epoch, line.sequence}, plain::Line::changes) != &line)
        return;
    int reader = (control.source + 1) % static_cast<int>(stores.size());
    stores[static_cast<size_t>(reader)].stored = {
        {line.epoch, line.sequence - 1}, true, static_cast<int>(place), lost + 1, false, {}};
    Agent &agent = *agents[static_cast<size_t>(reader)];
    Number before{line.epoch, line.sequence - 1};
    bool again = std::ranges::any_of(
        logs[place].begin() + static_cast<long>(lost) + 1, logs[place].end(), [&](const Entry &entry) {
            return entry.record.kind == RecordKind::changes && entry.number == Number{line.epoch, line.sequence};
        });
    agent.crash();
    agent.start();
    for (int n = 0; n < 2000; ++n) {
        agent.read_one();
        agent.tick();
        worker_step();
    }
    if (again) return; // the queue has it twice
    require(agent.gap && agent.follow->phase() == DestinationPhase::stopped, "a gap is not named");
    require(agent.follow->applied() == before, "a position beyond a gap");
    gaps_named++;
}

} // namespace replica::model
