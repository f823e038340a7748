#include "agentd/core/log_reader.hpp"

namespace replica {

LogReader::LogReader(Number position, bool opened, Place place)
    : position_(position), epoch_(position.epoch), opened_(opened), place_(std::move(place)) {
    if (opened) previous_ = position;
}

LogReader::Judgement LogReader::judge(const Entry &entry) {
    if (entry.place != place_) return Judgement::ignored;
    if (entry.record.kind == RecordKind::fence) {
        if (fence_ != 0 || entry.number.epoch <= epoch_) return Judgement::ignored;
        fence_ = entry.number.epoch;
        return Judgement::fence;
    }
    if (fence_ != 0 || entry.number.epoch != epoch_) return Judgement::ignored;
    switch (entry.record.kind) {
    case RecordKind::open:
        return judge_open(entry);
    case RecordKind::changes:
        return judge_changes(entry.number);
    case RecordKind::bulk:
        return opened_ ? Judgement::bulk : Judgement::ignored;
    default:
        return Judgement::ignored;
    }
}

LogReader::Judgement LogReader::judge_open(const Entry &entry) {
    const auto &open = entry.record.open;
    if (opened_ || !open || open->place != place_) return Judgement::ignored;
    if (previous_ && open->previous != *previous_) return Judgement::gap;
    opened_ = true;
    position_ = {epoch_, 0};
    previous_ = position_;
    return Judgement::counts;
}

LogReader::Judgement LogReader::judge_changes(const Number &number) {
    if (!opened_) return Judgement::gap; // its OPEN is missing
    if (number.sequence <= position_.sequence) return Judgement::ignored;
    if (number.sequence != position_.sequence + 1) return Judgement::gap;
    position_ = number;
    previous_ = position_;
    return Judgement::counts;
}

void LogReader::cross(const EpochStart &next) {
    assert(next.epoch > epoch_);
    epoch_ = next.epoch;
    place_ = next.place;
    opened_ = false;
    fence_ = 0;
}

} // namespace replica
