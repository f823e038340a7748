// Records: what one sealed envelope holds once it is open. Format: docs/formats/record.md.
#pragma once
#include "lib/wire/change.hpp"

namespace replica {

enum class RecordKind : uint8_t {
    open = 1,    // (e, 0): the epoch begins
    changes = 2, // (e, s): at most one change of an object, one of the list applied last
    fence = 3,   // (e, 0): no record of an epoch below e counts behind it in this place
    bulk = 4,    // outside the sequence: counts by (snapshot id, n)
};

struct Open {
    Number previous; // the last number that counted before this epoch, {0, 0} for the first epoch
    Place place;     // where this OPEN stands: an epoch's records cannot be moved to another place
    bool operator==(const Open &) const = default;
};

struct Record {
    RecordKind kind = RecordKind::changes;
    std::vector<Change> changes;
    std::optional<Open> open;
    std::string bulk; // an encoded Bulk
    bool operator==(const Record &) const = default;
};

std::string encode(const Record &);
template <> Result<Record> decode<Record>(std::string_view);

// R3, the chain: what a reader whose object has `mark` does with a change `number` that names `previous`.
enum class Chain : uint8_t {
    apply,    // mark == previous
    skip,     // mark at or past the number: it is contained already
    wanted,   // older mark, or none: the object needs a snapshot
    diverged, // between previous and number, or unlogged here: this store has what the source never had
};
struct Mark {
    Number number;         // none: the object has no mark
    bool unlogged = false; // something was committed past the log since
    bool operator==(const Mark &) const = default;
};
Chain judge_chain(const Mark &mark, const Number &previous, const Number &number);

} // namespace replica
