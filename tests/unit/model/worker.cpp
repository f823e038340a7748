// The workers of the simulated site: the third rule, collections and builds, in their own words.
#include "tests/unit/model/world.hpp"
#include <algorithm>

namespace replica::model {

Object object_of(int box) {
    Object object;
    for (size_t i = 0; i < 4; ++i)
        object.mailbox.bytes[i] = static_cast<uint8_t>(box >> (8 * i));
    return object;
}

int box_of(const Object &object) {
    int box = 0;
    for (size_t i = 0; i < 4; ++i)
        box |= object.mailbox.bytes[i] << (8 * i);
    return box;
}

std::string payload(const plain::Op &op) { return {reinterpret_cast<const char *>(&op), sizeof op}; }

plain::Op op_of(const Change &change) {
    plain::Op op;
    memcpy(&op, change.payload.data(), sizeof op);
    return op;
}

std::string payload(const std::set<int> &boxes) {
    std::string text;
    for (int box : boxes)
        text.append(reinterpret_cast<const char *>(&box), sizeof box);
    return text;
}

std::set<int> boxes_of(const Change &change) {
    std::set<int> boxes;
    for (size_t at = 0; at < change.payload.size(); at += sizeof(int)) {
        int box;
        memcpy(&box, change.payload.data() + at, sizeof box);
        boxes.insert(box);
    }
    return boxes;
}

Verdict World::judge(const Mark &mark, const Number &previous, const Number &number) const {
    bool had = !mark.number.none() && !(mark.number < number);
    if (had && bug != Bug::mark_not_compared) return Verdict::skipped;
    if (mark.unlogged) return Verdict::diverged;
    if (bug == Bug::mark_not_compared || bug == Bug::no_previous_compared) return Verdict::applied;
    if (mark.number == previous) return Verdict::applied;
    return mark.number < previous ? Verdict::wanted : Verdict::diverged;
}

Verdict World::apply(Store &store, bool source, const NumberedChange &numbered) {
    const auto &[number, change] = numbered;
    if (change.object.is_list()) return apply_list(store, source, numbered);
    int id = box_of(change.object);
    if (store.locks.contains(id)) return Verdict::retry;
    auto there = store.memory.boxes.find(id);
    if (there == store.memory.boxes.end())
        return number <= store.memory.list.number ? Verdict::skipped : Verdict::list_wanted;
    auto &[box, mark] = there->second;

    if (change.kind == ChangeKind::snapshot) {
        auto snapshot = decode<SnapshotChange>(change.payload);
        Verdict verdict = judge(source ? Mark{mark.number} : mark, change.previous, number);
        if (!source && verdict == Verdict::applied && (snapshot->unlogged || mark.number.none()))
            verdict = Verdict::wanted;
        if (verdict == Verdict::applied) mark = {number};
        if (verdict == Verdict::applied && source) store.disk.boxes[id] = there->second;
        if (verdict == Verdict::applied) store.collecting.erase(id);
        if (verdict == Verdict::wanted && !source) store.collecting[id] = {snapshot->id, number, number, {}, {}};
        return verdict;
    }
    if (auto open = store.collecting.find(id); open != store.collecting.end()) {
        Verdict verdict = judge({open->second.last}, change.previous, number);
        if (verdict == Verdict::applied) {
            open->second.later.push_back(numbered);
            open->second.last = number;
        } else if (verdict != Verdict::skipped) {
            store.collecting.erase(open);
            return Verdict::wanted;
        }
        return verdict;
    }
    Verdict verdict =
        mark.number.none() && bug != Bug::no_previous_compared ? Verdict::wanted : judge(mark, change.previous, number);
    if (verdict != Verdict::applied) return verdict;
    box.apply(op_of(change));
    mark.number = number;
    return verdict;
}

Verdict World::apply_list(Store &store, bool source, const NumberedChange &numbered) {
    const auto &[number, change] = numbered;
    if (store.locks.contains(0)) return Verdict::retry;
    Mark &mark = store.memory.list;
    bool heals = change.kind == ChangeKind::list_snapshot && mark.number < number && !source;
    Verdict verdict = heals ? Verdict::applied : judge(mark, change.previous, number);
    if (verdict != Verdict::applied) return verdict;
    auto &boxes = store.memory.boxes;
    int id = box_of({"", change.subject});
    auto locked = [&](int box) { return store.locks.contains(box); };
    if (change.kind == ChangeKind::list_create) {
        if (!boxes.contains(id)) boxes[id].mark = {number};
    } else if (change.kind == ChangeKind::list_delete) {
        if (locked(id)) return Verdict::retry;
        boxes.erase(id);
        store.collecting.erase(id);
    } else if (!source) {
        auto wanted = boxes_of(change);
        if (std::ranges::any_of(boxes, [&](const auto &entry) { return locked(entry.first); })) return Verdict::retry;
        std::erase_if(boxes, [&](const auto &entry) { return !wanted.contains(entry.first); });
        for (int box : wanted)
            boxes[box];
    }
    mark = {number};
    return verdict;
}

Verdict World::build(Store &store, const Build &request) {
    int id = box_of(request.object);
    if (store.locks.contains(id)) return Verdict::retry;
    auto there = store.memory.boxes.find(id);
    auto open = store.collecting.find(id);
    if (there == store.memory.boxes.end()) return Verdict::list_wanted;
    if (open == store.collecting.end() || open->second.id != request.snapshot) return Verdict::wanted;
    plain::Box box;
    for (const Bulk &part : open->second.parts) {
        if (part.head) {
            box.next_uid = part.head->next_uid;
            box.changes = part.head->highest_modseq;
        }
        for (const Append &mail : part.mails)
            box.mails[mail.uid] = {mails_.at(mail.guid), mail.modseq};
    }
    auto later = std::move(open->second.later);
    store.collecting.erase(open);
    there->second = {box, {request.number}};
    tell(static_cast<int>(&store - stores.data()), "build " + to_string(request.number) + " of " + std::to_string(id));
    for (const auto &change : later)
        if (Verdict verdict = apply(store, false, change); verdict != Verdict::applied) return verdict;
    return Verdict::applied;
}

Reply World::serve(Store &store, bool source, WorkerRequest &request) {
    Reply reply;
    if (auto *batch = std::get_if<Apply>(&request)) {
        for (const auto &change : batch->changes) {
            reply.changes.push_back(chance(2) ? Verdict::retry : apply(store, source, change));
            reply.verdict = reply.changes.back();
            static constexpr const char *verdicts[] = {"applied", "skipped", "wanted",     "diverged",
                                                       "retry",   "failed",  "list wanted"};
            tell(static_cast<int>(&store - stores.data()), "apply " + to_string(change.number) + " to " +
                                                               std::to_string(box_of(change.change.object)) + ": " +
                                                               verdicts[static_cast<int>(reply.verdict)]);
            if (reply.verdict == Verdict::retry) break;
        }
    } else if (auto *collect = std::get_if<Collect>(&request)) {
        auto bulk = decode<Bulk>(collect->bulk);
        auto open = store.collecting.find(box_of(bulk->object));
        if (open == store.collecting.end() || open->second.id != bulk->id || bulk->n > open->second.parts.size())
            reply.verdict = Verdict::wanted;
        else if (bulk->n < open->second.parts.size())
            reply.verdict = Verdict::skipped;
        else
            open->second.parts.push_back(*bulk);
    } else if (auto *last = std::get_if<Build>(&request)) {
        reply.verdict = build(store, *last);
    } else if (std::holds_alternative<Inspect>(request)) {
        reply.facts.emplace();
        reply.facts->objects.push_back({.object = object_of(0), .mark = store.memory.list});
        for (const auto &[id, box] : store.memory.boxes)
            reply.facts->objects.push_back({.object = object_of(id), .mark = box.mark});
    }
    return reply;
}

// Each store's worker answers in order; which store's is next is chance.
void World::worker_step() {
    if (requests.empty()) return;
    int store = requests[random(requests.size())].store;
    auto first = std::ranges::find(requests, store, &Request::store);
    Request request = std::move(*first);
    requests.erase(first);
    bool source = agents[static_cast<size_t>(store)]->ship != nullptr;
    request.done(serve(stores[static_cast<size_t>(store)], source, request.request));
}

} // namespace replica::model
