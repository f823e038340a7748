#include "lib/wire/record.hpp"
#include "lib/wire/fields.hpp"
#include <algorithm>

namespace replica {

constexpr uint8_t record_version = 1;

constexpr auto fields(Is<Open> auto &o) { return std::tie(o.previous, o.place); }
constexpr bool legal(RecordKind kind) { return kind >= RecordKind::open && kind <= RecordKind::bulk; }

// At least one change, and at most one of an object.
static bool distinct(const std::vector<Change> &changes) {
    std::vector<const Object *> objects;
    objects.reserve(changes.size());
    for (const Change &change : changes)
        objects.push_back(&change.object);
    std::sort(objects.begin(), objects.end(), [](auto a, auto b) { return *a < *b; });
    auto same = [](auto a, auto b) { return *a == *b; };
    return !objects.empty() && std::adjacent_find(objects.begin(), objects.end(), same) == objects.end();
}

std::string encode(const Record &record) {
    std::string out;
    Encoder to(out);
    to.put(record_version);
    to.put(record.kind);
    switch (record.kind) {
    case RecordKind::open:
        to.put(record.open.value_or(Open{}));
        break;
    case RecordKind::changes:
        to.put(record.changes);
        break;
    case RecordKind::fence:
        break;
    case RecordKind::bulk:
        to.put(record.bulk);
        break;
    }
    return out;
}

template <> Result<Record> decode<Record>(std::string_view bytes) {
    Decoder in(bytes);
    Record record;
    uint8_t version = 0;
    in.get(version);
    if (version != record_version) in.fail(Code::unsupported);
    in.get(record.kind);
    switch (record.kind) {
    case RecordKind::open:
        in.get(record.open.emplace());
        break;
    case RecordKind::changes:
        in.get(record.changes);
        if (!distinct(record.changes)) in.fail(Code::corrupt);
        break;
    case RecordKind::fence:
        break;
    case RecordKind::bulk:
        in.get(record.bulk);
        break;
    }
    return in.finish(record, "a record");
}

Chain judge_chain(const Mark &mark, const Number &previous, const Number &number) {
    if (mark.number.none()) return previous.none() ? Chain::apply : Chain::wanted;
    if (mark.number >= number) return Chain::skip;
    if (mark.unlogged) return Chain::diverged;
    if (mark.number == previous) return Chain::apply;
    return mark.number < previous ? Chain::wanted : Chain::diverged;
}

} // namespace replica
