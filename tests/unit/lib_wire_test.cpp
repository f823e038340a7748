// What holds for every codec, shown on one value of each type with every field set.
#include "lib/base/bytes.hpp"
#include "lib/wire/control.hpp"
#include "lib/wire/frame.hpp"
#include "lib/wire/record.hpp"
#include "tests/golden/vectors.hpp"
#include <gtest/gtest.h>

namespace replica {
namespace {

class Codec : public testing::TestWithParam<golden::Vector> {
protected:
    Result<std::string> recode(std::string_view given) const {
        std::vector<char> exact(given.begin(), given.end()); // so that a sanitizer sees a read past the end
        return GetParam().recode({exact.data(), exact.size()});
    }
    const std::string &bytes = GetParam().bytes;
};

TEST_P(Codec, EncodesWhatItDecodedToTheSameBytes) {
    auto again = recode(bytes);
    ASSERT_TRUE(again) << again.error().message;
    EXPECT_EQ(to_hex(*again), to_hex(bytes));
}

TEST_P(Codec, RefusesEveryShorterPrefix) {
    for (size_t length = 0; length < bytes.size(); length++)
        EXPECT_FALSE(recode(std::string_view(bytes).substr(0, length))) << length << " of " << bytes.size();
}

TEST_P(Codec, RefusesBytesBehindTheEnd) {
    EXPECT_FALSE(recode(bytes + '\0'));
    EXPECT_FALSE(recode(bytes + bytes));
}

// A value has one encoding: what is accepted with a bit turned is another value, and encodes to just those bytes.
TEST_P(Codec, AcceptsNoSecondEncodingOfAValue) {
    for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
        std::string bent = bytes;
        bent[bit / 8] = static_cast<char>(bent[bit / 8] ^ 1 << bit % 8);
        auto again = recode(bent);
        EXPECT_EQ(to_hex(again ? *again : bent), to_hex(bent)) << "bit " << bit;
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, Codec, testing::ValuesIn(golden::vectors()),
                         [](const auto &vector) { return vector.param.name; });

template <class T> Code refusal(std::string_view bytes) {
    auto value = decode<T>(bytes);
    EXPECT_FALSE(value);
    return value ? Code::retry : value.error().code;
}

const Object mailbox{"", Guid::from("a mailbox's guid")};
Record with(Change change) { return {RecordKind::changes, {std::move(change)}, {}, {}}; }

TEST(CodecRules, AnUnknownVersionKindOrTypeIsUnsupportedNotCorrupt) {
    std::string fence = encode(Record{RecordKind::fence, {}, {}, {}});
    std::string version = fence, kind = fence;
    version[0] = 2;
    kind[1] = 5;
    EXPECT_EQ(refusal<Record>(version), Code::unsupported);
    EXPECT_EQ(refusal<Record>(kind), Code::unsupported);
    EXPECT_EQ(refusal<Record>(encode(with({mailbox, ChangeKind{32}, {}, {}, {}}))), Code::unsupported);
    EXPECT_EQ(refusal<ControlValue>("\x06"), Code::unsupported);
    EXPECT_EQ(refusal<ControlValue>(""), Code::corrupt);
    EXPECT_EQ(decode_client_frame("\x05").error().code, Code::unsupported);
    EXPECT_EQ(decode_agent_frame("\x01").error().code, Code::unsupported);
}

TEST(CodecRules, ARecordHasAtLeastOneChangeAndAtMostOneOfAnObject) {
    Change change{mailbox, ChangeKind::mailbox, {}, {1, 1}, "payload"};
    EXPECT_TRUE(decode<Record>(encode(with(change))));
    Record none = with(change), twice = with(change);
    none.changes.clear();
    twice.changes.push_back(change);
    EXPECT_EQ(refusal<Record>(encode(none)), Code::corrupt);
    EXPECT_EQ(refusal<Record>(encode(twice)), Code::corrupt);
}

TEST(CodecRules, AChangesKindFitsItsObjectAndSubject) {
    const Object list{"", {}};
    EXPECT_EQ(refusal<Record>(encode(with({list, ChangeKind::mailbox, {}, {}, {}}))), Code::corrupt);
    EXPECT_EQ(refusal<Record>(encode(with({list, ChangeKind::snapshot, {}, {}, {}}))), Code::corrupt);
    EXPECT_EQ(refusal<Record>(encode(with({mailbox, ChangeKind::list_rename, {}, {}, {}}))), Code::corrupt);
    EXPECT_EQ(refusal<Record>(encode(with({mailbox, ChangeKind::mailbox, mailbox.mailbox, {}, {}}))), Code::corrupt);
    EXPECT_TRUE(decode<Record>(encode(with({list, ChangeKind::list_delete, mailbox.mailbox, {}, {}}))));
}

TEST(CodecRules, IllegalMailboxChangesAreRefused) {
    auto refused = [](auto break_it) {
        MailboxChange change;
        break_it(change);
        return refusal<MailboxChange>(encode(change)) == Code::corrupt;
    };
    EXPECT_TRUE(refused([](auto &c) { c.appends.emplace_back(); })) << "UID 0";
    EXPECT_TRUE(refused([](auto &c) { c.appends.emplace_back().uid = 1, c.appends[0].flags = 0x20; })) << "\\Recent";
    EXPECT_TRUE(refused([](auto &c) { c.flags = {{{2, 1}, 1, 0}}; })) << "a range that ends before it begins";
    EXPECT_TRUE(refused([](auto &c) { c.flags = {{{1, 1}, 0x40, 0}}; })) << "a flag that is not a client's";
    EXPECT_TRUE(refused([](auto &c) { c.expunges = {{0, {}}}; })) << "UID 0";
    EXPECT_TRUE(refused([](auto &c) { c.keywords = {{std::string("a\0b", 3), true, {}}}; })) << "NUL in a name";
}

TEST(CodecRules, ABulkRecordHasItsHeadExactlyIfItIsTheFirst) {
    Bulk bulk{mailbox, {}, 0, Bulk::Head{}, {}, {}};
    EXPECT_TRUE(decode<Bulk>(encode(bulk)));
    bulk.n = 1;
    EXPECT_EQ(refusal<Bulk>(encode(bulk)), Code::corrupt);
    bulk.head.reset();
    EXPECT_TRUE(decode<Bulk>(encode(bulk)));
    bulk.n = 0;
    EXPECT_EQ(refusal<Bulk>(encode(bulk)), Code::corrupt);
}

TEST(CodecRules, AVectorsCountAloneAllocatesNothing) {
    std::string many = encode(ListSnapshot{});
    many.replace(0, 4, "\xff\xff\xff\xff");
    EXPECT_EQ(refusal<ListSnapshot>(many), Code::corrupt);
}

TEST(ControlKey, TellsWhatItsMakerPutIn) {
    AccountKey account = golden::envelope_header().account;
    Session session = golden::envelope_header().session;
    std::string store(32, 's');
    auto key = parse_control_key(account_record_key(account, 4, store, session, 9));
    ASSERT_TRUE(key);
    EXPECT_EQ(key->kind, ControlKey::Kind::account_record);
    EXPECT_EQ(key->account, account);
    EXPECT_EQ(key->version, 4u);
    EXPECT_EQ(key->store_hash, store);
    EXPECT_EQ(parse_control_key(heartbeat_key(store))->kind, ControlKey::Kind::heartbeat);
    EXPECT_EQ(parse_control_key(destination_key(account, store))->account, account);
    EXPECT_EQ(parse_control_key(operation_key(mailbox.mailbox))->operation, mailbox.mailbox);
    EXPECT_EQ(parse_control_key(check_answer_key(mailbox.mailbox, store))->store_hash, store);
    EXPECT_FALSE(parse_control_key(""));
    EXPECT_FALSE(parse_control_key("x" + store));
    EXPECT_FALSE(parse_control_key(heartbeat_key(store) + "more"));
    EXPECT_FALSE(parse_control_key(heartbeat_key(store.substr(1))));
}

// --- FrameSplitter ---

std::string framed(std::string_view body) {
    std::string out;
    Writer(out).blob(body);
    return out;
}

TEST(FrameSplitter, TakesWholeFramesOutOfAnyPieces) {
    const std::vector<std::string> frames = {"a", std::string(1000, 'b'), "ccc"};
    std::string stream;
    for (const std::string &frame : frames)
        stream += framed(frame);
    for (size_t piece : {size_t{1}, size_t{3}, size_t{7}, stream.size()}) {
        FrameSplitter splitter;
        std::vector<std::string> got;
        for (size_t at = 0; at < stream.size(); at += piece) {
            splitter.feed(std::string_view(stream).substr(at, piece));
            for (auto frame = splitter.next(); frame && *frame; frame = splitter.next())
                got.push_back(**frame);
        }
        EXPECT_EQ(got, frames) << "in pieces of " << piece;
    }
}

TEST(FrameSplitter, RefusesALengthOfZeroAndOneAboveTheLimitBeforeItsBytesCome) {
    FrameSplitter zero, large, largest;
    zero.feed(framed(""));
    EXPECT_EQ(zero.next().error().code, Code::corrupt);
    std::string length;
    Writer(length).u32(frame_bytes_max + 1);
    large.feed(length);
    EXPECT_EQ(large.next().error().code, Code::corrupt);
    length.clear();
    Writer(length).u32(frame_bytes_max);
    largest.feed(length);
    auto waiting = largest.next();
    ASSERT_TRUE(waiting);
    EXPECT_FALSE(*waiting);
    largest.feed(std::string(frame_bytes_max, 'x'));
    EXPECT_EQ((*largest.next())->size(), frame_bytes_max);
}

TEST(FrameSplitter, GivesWholeFramesBeforeItRefusesTheNext) {
    FrameSplitter splitter;
    splitter.feed(framed("good") + framed(""));
    EXPECT_EQ(**splitter.next(), "good");
    EXPECT_FALSE(splitter.next());
}

// --- R3: the whole table ---

TEST(Chain, EveryMarkPreviousAndNumberIsJudgedByTheRule) {
    using enum Chain;
    const Number none{}, before{2, 9}, previous{3, 4}, between{3, 5}, number{3, 6}, after{3, 7}, next_epoch{4, 1};
    struct {
        Number mark, previous;
        Chain logged, unlogged;
    } const table[] = {
        {none, none, apply, apply},           // a first change: only the kinds that may be one say none
        {none, previous, wanted, wanted},     //
        {before, previous, wanted, diverged}, // an older mark
        {previous, previous, apply, diverged},
        {between, previous, diverged, diverged},
        {number, previous, skip, skip}, // contained already, whatever came after
        {after, previous, skip, skip},
        {next_epoch, previous, skip, skip},
        {before, none, diverged, diverged}, // a first change of an object that has a past here
        {number, none, skip, skip},
    };
    for (const auto &row : table) {
        std::string what = "mark " + to_string(row.mark) + ", previous " + to_string(row.previous);
        EXPECT_EQ(judge_chain({row.mark, false}, row.previous, number), row.logged) << what;
        EXPECT_EQ(judge_chain({row.mark, true}, row.previous, number), row.unlogged) << what << ", unlogged";
    }
}

// The rule of R3 in other words, over all small numbers.
TEST(Chain, AgreesWithThePlainRule) {
    auto at = [](int i) { return i == 0 ? Number{} : Number{1u + i / 4u, i % 4u}; };
    for (int mark = 0; mark < 10; mark++)
        for (int number = 1; number < 10; number++)
            for (int previous = 0; previous < number; previous++)
                for (bool unlogged : {false, true}) {
                    Chain expected = Chain::apply;
                    if (mark == 0)
                        expected = previous == 0 ? Chain::apply : Chain::wanted;
                    else if (mark >= number)
                        expected = Chain::skip;
                    else if (unlogged || mark > previous)
                        expected = Chain::diverged;
                    else if (mark < previous)
                        expected = Chain::wanted;
                    EXPECT_EQ(judge_chain({at(mark), unlogged}, at(previous), at(number)), expected)
                        << mark << " " << previous << " " << number << " " << unlogged;
                }
}

} // namespace
} // namespace replica
