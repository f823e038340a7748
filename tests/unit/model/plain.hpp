// The plain model: mailboxes are maps, the log is a list of facts, and the rules are said once, slowly, over the whole
// log. Shares no code with lib or agentd: it is what they are compared with.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace plain {

struct Broken : std::runtime_error { // a property does not hold
    using std::runtime_error::runtime_error;
};
inline void require(bool holds, const std::string &what) {
    if (!holds) throw Broken(what);
}

struct Op { // of one mailbox; `raise` is not idempotent, so that applying twice shows
    enum Kind : uint8_t { save, raise, expunge } kind = save;
    uint32_t uid = 0;
    uint64_t mail = 0;
    bool operator==(const Op &) const = default;
};

struct Box {
    struct Mail {
        uint64_t id = 0, raised = 0;
        bool operator==(const Mail &) const = default;
    };
    std::map<uint32_t, Mail> mails;
    uint32_t next_uid = 1;
    uint64_t changes = 0;
    bool operator==(const Box &) const = default;

    void apply(const Op &op) {
        ++changes;
        if (op.kind == Op::save) {
            mails[op.uid] = {op.mail, 0};
            if (next_uid <= op.uid) next_uid = op.uid + 1;
        } else if (auto mail = mails.find(op.uid); mail != mails.end()) {
            if (op.kind == Op::raise)
                ++mail->second.raised;
            else
                mails.erase(mail);
        }
    }
};
using Boxes = std::map<int, Box>;

struct Fact { // one change
    enum Kind : uint8_t { op, snapshot, create, remove, list_snapshot } kind = op;
    int box = 0; // of create and remove: the mailbox that they are about
    Op what{};
    std::string snapshot_id;
    bool unknown_before = false; // a snapshot of what the log never had
    std::set<int> boxes;         // list_snapshot
    bool operator==(const Fact &) const = default;
};
struct Line { // one record of a place
    enum Kind : uint8_t { open, changes, fence, bulk } kind = changes;
    uint64_t epoch = 0, sequence = 0;
    uint64_t previous_epoch = 0, previous_sequence = 0; // open
    std::vector<Fact> facts;
};
using Log = std::vector<Line>; // of one place
using Number = std::pair<uint64_t, uint64_t>;

// The counting rule: the first of its number, unless a fence of a later epoch stands before it.
inline const Line *counting(const Log &log, const Number &number, Line::Kind kind) {
    for (const Line &line : log) {
        if (line.kind == Line::fence && line.epoch > number.first) return nullptr;
        if (line.kind == kind && Number{line.epoch, line.sequence} == number) return &line;
    }
    return nullptr;
}

struct Truth {
    Boxes boxes;
    std::map<Number, const Line *> counted;
    std::set<int> unknown; // content that no log has: known again at the next snapshot

    void take(const Fact &fact, const std::map<std::string, Box> &frozen) {
        std::string name = "mailbox " + std::to_string(fact.box);
        switch (fact.kind) {
        case Fact::op: {
            if (unknown.contains(fact.box)) return;
            require(boxes.contains(fact.box), name + " changed, but is not there");
            Box &box = boxes[fact.box];
            require(fact.what.kind != Op::save || fact.what.uid >= box.next_uid,
                    "uid " + std::to_string(fact.what.uid) + " of " + name + " was given twice");
            return box.apply(fact.what);
        }
        case Fact::snapshot: {
            if (fact.unknown_before) unknown.insert(fact.box);
            auto view = frozen.find(fact.snapshot_id);
            if (view == frozen.end()) return; // whoever took it died before its commit
            require(unknown.erase(fact.box) > 0 || boxes[fact.box] == view->second,
                    "the source's " + name + " is not what its log says");
            boxes[fact.box] = view->second;
            return;
        }
        case Fact::create:
            boxes[fact.box];
            return;
        case Fact::remove:
            boxes.erase(fact.box);
            return;
        case Fact::list_snapshot:
            for (int there : fact.boxes)
                if (!boxes.contains(there)) boxes[there];
            std::erase_if(boxes, [&](const auto &entry) { return !fact.boxes.contains(entry.first); });
            return;
        }
    }
};

// What the account is, by its logs alone. `place_of` names each epoch's log; `frozen` what snapshots froze.
inline Truth replay(const std::vector<Log> &logs, const std::map<uint64_t, int> &place_of, uint64_t last_epoch,
                    const std::map<std::string, Box> &frozen) {
    std::vector<Number> ends; // of each epoch up to the last
    for (Number end{last_epoch, UINT64_MAX}; end.first != 0;) {
        ends.insert(ends.begin(), end);
        const Line *open = counting(logs[static_cast<size_t>(place_of.at(end.first))], {end.first, 0}, Line::open);
        require(open != nullptr, "epoch " + std::to_string(end.first) + " has no OPEN that counts");
        end = {open->previous_epoch, open->previous_sequence};
    }
    Truth truth;
    for (auto [epoch, last] : ends) {
        const Log &log = logs[static_cast<size_t>(place_of.at(epoch))];
        uint64_t sequence = 0;
        const Line *line;
        while (sequence < last && (line = counting(log, {epoch, sequence + 1}, Line::changes)) != nullptr) {
            truth.counted[{epoch, ++sequence}] = line;
            for (const Fact &fact : line->facts)
                truth.take(fact, frozen);
        }
        require(last == UINT64_MAX || sequence == last, "an epoch begins behind what counts before it");
        require(last == UINT64_MAX || counting(log, {epoch, last + 1}, Line::changes) == nullptr,
                "an epoch begins before the end of what counts before it");
    }
    return truth;
}

} // namespace plain
