#include "lib/seal/envelope.hpp"
#include "lib/seal/envelope_layout.hpp"
#include "tests/golden/vectors.hpp"
#include <gtest/gtest.h>

namespace replica {
namespace {

const std::string name_line = "name " + std::string(64, '0') + "\n";
const std::string key_1 = "key 1 " + std::string(64, '1') + "\n", key_2 = "key 2 " + std::string(64, '2') + "\n";

KeyRing ring(const std::string &text) {
    auto parsed = KeyRing::parse(text);
    EXPECT_TRUE(parsed) << parsed.error().message;
    return *parsed;
}
const KeyRing &golden_ring() {
    static const KeyRing ring = golden::ring();
    return ring;
}
Code refusal(const Result<Opened> &opened) { return opened ? Code::retry : opened.error().code; }

TEST(Envelope, OpensToWhatWasSealed) {
    for (const std::string &plaintext : {std::string(), std::string("x"), std::string(1 << 20, '\0')}) {
        auto sealed = seal(golden_ring(), golden::envelope_header(), plaintext);
        ASSERT_TRUE(sealed);
        auto opened = open(golden_ring(), *sealed);
        ASSERT_TRUE(opened) << opened.error().message;
        EXPECT_EQ(opened->plaintext, plaintext);
        EXPECT_EQ(opened->header.account, golden::envelope_header().account);
        EXPECT_EQ(opened->header.number, (Number{3, 1207}));
        EXPECT_EQ(opened->header.session, golden::envelope_header().session);
        EXPECT_EQ(opened->header.key_id, 2u) << "the active key";
    }
}

TEST(Envelope, TwoSealsOfTheSameBytesDiffer) {
    EXPECT_NE(*seal(golden_ring(), golden::envelope_header(), "x"),
              *seal(golden_ring(), golden::envelope_header(), "x"));
}

TEST(Envelope, ShowsNothingOfThePlaintext) {
    std::string plaintext(golden::plaintext);
    EXPECT_EQ(seal(golden_ring(), golden::envelope_header(), plaintext)->find(plaintext.substr(0, 8)),
              std::string::npos);
}

TEST(Envelope, EveryBitThatIsTurnedIsNoticed) {
    const std::string sealed = *seal(golden_ring(), golden::envelope_header(), golden::plaintext);
    for (size_t bit = 0; bit < sealed.size() * 8; bit++) {
        std::string bent = sealed;
        bent[bit / 8] = static_cast<char>(bent[bit / 8] ^ 1 << bit % 8);
        EXPECT_FALSE(open(golden_ring(), bent)) << "bit " << bit;
    }
}

TEST(Envelope, IsRefusedForTheReasonThatHolds) {
    const std::string sealed = *seal(golden_ring(), golden::envelope_header(), "text");
    auto with = [&](size_t at, char c) {
        std::string bent = sealed;
        bent[at] = c;
        return bent;
    };
    EXPECT_EQ(refusal(open(golden_ring(), "")), Code::corrupt);
    EXPECT_EQ(refusal(open(golden_ring(), with(0, 'X'))), Code::corrupt);
    EXPECT_EQ(refusal(open(golden_ring(), with(4, 2))), Code::unsupported) << "another version";
    EXPECT_EQ(refusal(open(golden_ring(), with(8, 9))), Code::unsupported) << "a key that the ring lacks";
    EXPECT_EQ(refusal(open(golden_ring(), with(8, 1))), Code::denied) << "another key of the ring";
    EXPECT_EQ(refusal(open(golden_ring(), with(sealed.size() - 1, 'X'))), Code::denied);
}

TEST(Envelope, OfOneAccountOrEpochDoesNotOpenAsAnothers) {
    // Swap the headers of two envelopes: each is authentic by itself, neither with the other's.
    EnvelopeHeader other = golden::envelope_header();
    other.account = golden_ring().account_key("u0002@example.com");
    std::string a = *seal(golden_ring(), golden::envelope_header(), "text"), b = *seal(golden_ring(), other, "text");
    EXPECT_EQ(refusal(open(golden_ring(), a.substr(0, 77) + b.substr(77))), Code::denied);
    EXPECT_EQ(refusal(open(golden_ring(), b.substr(0, 77) + a.substr(77))), Code::denied);
}

TEST(Envelope, PeekReadsTheHeaderWithoutAKey) {
    auto header = peek(*seal(golden_ring(), golden::envelope_header(), "text"));
    ASSERT_TRUE(header);
    EXPECT_EQ(header->account, golden::envelope_header().account);
    EXPECT_EQ(header->number, golden::envelope_header().number);
    EXPECT_FALSE(peek("AREV"));
}

TEST(KeyRing, RotationOpensTheOldWhileItSealsWithTheNew) {
    KeyRing before = ring(name_line + key_1 + "active 1\n"), added = ring(name_line + key_1 + key_2 + "active 1\n");
    KeyRing switched = ring(name_line + key_1 + key_2 + "active 2\n"), dropped = ring(name_line + key_2 + "active 2\n");
    EnvelopeHeader header = golden::envelope_header();
    std::string old_text = *seal(before, header, "old"), new_text = *seal(switched, header, "new");
    EXPECT_EQ(peek(old_text)->key_id, 1u);
    EXPECT_EQ(peek(new_text)->key_id, 2u);
    for (const KeyRing *reader : {&added, &switched}) {
        EXPECT_EQ(open(*reader, old_text)->plaintext, "old");
        EXPECT_EQ(open(*reader, new_text)->plaintext, "new");
    }
    EXPECT_EQ(refusal(open(before, new_text)), Code::unsupported);
    EXPECT_EQ(refusal(open(dropped, old_text)), Code::unsupported);
}

TEST(KeyRing, CheckValueIsEqualExactlyWhereTheKeysAre) {
    std::string both = ring(name_line + key_1 + key_2 + "active 1\n").check_value();
    EXPECT_EQ(both, ring("active 2\n" + key_2 + key_1 + name_line).check_value()) << "order and the active one aside";
    EXPECT_NE(both, ring(name_line + key_1 + "active 1\n").check_value());
    EXPECT_NE(both, ring("name " + std::string(64, '9') + "\n" + key_1 + key_2 + "active 1\n").check_value());
    EXPECT_NE(both, ring(name_line + "key 1 " + std::string(64, '3') + "\n" + key_2 + "active 1\n").check_value());
}

TEST(KeyRing, NamesHashByDomainAndNotByRotation) {
    KeyRing one = ring(name_line + key_1 + "active 1\n"), two = ring(name_line + key_2 + "active 2\n");
    EXPECT_EQ(one.account_key("u@example.com"), two.account_key("u@example.com"));
    EXPECT_NE(one.account_key("u@example.com"), one.account_key("v@example.com"));
    EXPECT_NE(one.name_hash("store", "x"), one.name_hash("operation", "x"));
    EXPECT_NE(one.name_hash("ab", "c"), one.name_hash("a", "bc"));
    EXPECT_EQ(one.name_hash("store", "x").size(), 32u);
}

TEST(KeyRing, GeneratesAFileThatItReadsAndNeverTheSameTwice) {
    std::string text = KeyRing::generate();
    EXPECT_EQ(ring(text).active(), 1u);
    EXPECT_NE(text, KeyRing::generate());
}

TEST(KeyRing, TakesCommentsBlanksAndAnyOrder) {
    KeyRing loose = ring("# head\n\n  active\t2 # the new one\r\n" + key_2 + key_1 + "name " + std::string(64, 'A'));
    EXPECT_EQ(loose.active(), 2u);
    EXPECT_NE(loose.find(1), nullptr);
    EXPECT_EQ(loose.find(3), nullptr);
}

TEST(KeyRing, SaysWhichLineIsWrongAndNeverShowsWhatItSays) {
    const std::string secret(63, '7');
    const struct {
        std::string text, message;
    } table[] = {
        {name_line + key_1, "no line `active <id>`"},
        {key_1 + "active 1\n", "no line `name <key>`"},
        {"", "no line `name <key>`"},
        {name_line + "key 1 " + secret + "\nactive 1\n", "line 2: key 1 wants 64 hexadecimal digits"},
        {"name " + secret + "g\n", "line 1: `name` wants 64 hexadecimal digits"},
        {name_line + "\nkey 0 " + std::string(64, '1') + "\n",
         "line 3: the id of a `key` is a number from 1 to 4294967295"},
        {name_line + "key 4294967296 " + std::string(64, '1'),
         "line 2: the id of a `key` is a number from 1 to 4294967295"},
        {name_line + key_1 + key_1, "line 3: key 1 stands here a second time"},
        {name_line + name_line, "line 2: a second `name`; one is all there can be"},
        {name_line + key_1 + "active 1\nactive 1\n", "line 4: a second `active`; one is all there can be"},
        {name_line + key_1 + "active one\n", "line 3: `active` wants a number from 1 to 4294967295"},
        {name_line + key_1 + "active 2\n", "line 3: there is no key 2 that could be active"},
        {name_line + secret + "\n",
         "line 2: a line is `name <key>`, `key <id> <key>`, `active <id>`, empty, or a comment after #"},
        {name_line + "key 1\n",
         "line 2: a line is `name <key>`, `key <id> <key>`, `active <id>`, empty, or a comment after #"},
    };
    for (const auto &row : table) {
        auto parsed = KeyRing::parse(row.text);
        ASSERT_FALSE(parsed) << row.text;
        EXPECT_EQ(parsed.error().code, Code::invalid);
        EXPECT_EQ(parsed.error().message, row.message);
        EXPECT_EQ(parsed.error().message.find(secret), std::string::npos);
    }
}

TEST(Crypto, Sha256OfAbcIsTheStandards) { // FIPS 180-2, appendix B.1
    EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Crypto, RandomBytesAreOfTheLengthAskedForAndDiffer) {
    EXPECT_EQ(random_bytes(0), "");
    EXPECT_EQ(random_bytes(16).size(), 16u);
    EXPECT_NE(random_bytes(16), random_bytes(16));
}

} // namespace
} // namespace replica
