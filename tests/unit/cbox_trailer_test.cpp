#include "plugin/cbox/cbox-trailer.hpp"
#include <gtest/gtest.h>

namespace replica {
namespace {

CboxTrailer sample() {
    return {.body_size = 3000000000,
            .physical_size = 10,
            .virtual_size = 11,
            .account = Guid::from("account---------"),
            .mailbox = Guid::from("mailbox---------"),
            .message = Guid::from("message---------"),
            .uid = 7,
            .received = 1,
            .saved = 0xfffffffe,
            .pop3_order = 3,
            .pop3_uidl = std::string("uidl\0with nul", 13),
            .body_crc = 0x12345678};
}

std::string_view end_of(const std::string &whole) {
    return std::string_view(whole).substr(whole.size() - cbox_trailer_end_size);
}

TEST(CboxTrailer, WhatIsEncodedIsDecoded) {
    std::string whole = encode(sample());
    EXPECT_EQ(*cbox_trailer_size(end_of(whole)), whole.size());
    EXPECT_EQ(*cbox_trailer_decode(whole), sample());
}

TEST(CboxTrailer, IsTheExampleOfItsPage) {
    CboxTrailer trailer{
        .body_size = 3, .physical_size = 3, .virtual_size = 3, .pop3_uidl = "u", .body_crc = 0xf0d877a9};
    EXPECT_EQ(cbox_crc32(0, "x\r\n"), trailer.body_crc);
    std::string whole = encode(trailer);
    EXPECT_EQ(whole.size(), 125u);
    EXPECT_EQ(to_hex(whole.substr(100)), "0000000175f0d877a90000007d1baf59c463626f787461696c");
}

TEST(CboxTrailer, NoShorterOneAndNoneWithAChangedByteIsTaken) {
    const std::string whole = encode(sample());
    for (size_t n = 0; n < whole.size(); n++)
        EXPECT_FALSE(cbox_trailer_decode(whole.substr(0, n))) << n;
    for (size_t n = 0; n < whole.size(); n++) {
        std::string bent = whole;
        bent[n] = static_cast<char>(bent[n] ^ 0x10);
        EXPECT_FALSE(cbox_trailer_decode(bent)) << n;
    }
    EXPECT_FALSE(cbox_trailer_decode(whole + "x"));
}

TEST(CboxTrailer, AnImpossibleSizeIsRefused) {
    EXPECT_FALSE(cbox_trailer_size(std::string("\xff\xff\xff\xff\0\0\0\0cboxtail", 16)));
    EXPECT_FALSE(cbox_trailer_size("cboxtail"));
    EXPECT_FALSE(cbox_trailer_size(""));
}

TEST(CboxCrc32, IsTheOneOfZlibAndRunsInParts) {
    std::string text = "The quick brown fox jumps over the lazy dog";
    EXPECT_EQ(cbox_crc32(0, text), 0x414fa339u);
    for (size_t n = 0; n <= text.size(); n++)
        EXPECT_EQ(cbox_crc32(cbox_crc32(0, text.substr(0, n)), text.substr(n)), 0x414fa339u);
}

} // namespace
} // namespace replica
