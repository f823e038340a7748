#include "plugin/cbox/cbox-blob-list.hpp"
#include <gtest/gtest.h>

namespace replica {
namespace {

Guid blob(uint8_t first, uint8_t last) {
    Guid guid;
    guid.bytes.front() = first;
    guid.bytes.back() = last;
    return guid;
}

CboxBlobList some(size_t count) {
    CboxBlobList list;
    for (size_t i = 0; i < count; i++)
        list.push_back({blob(static_cast<uint8_t>(i * 2), 7), 1000 + i});
    return list;
}

TEST(CboxBlobList, WhatIsWrittenIsRead) {
    for (size_t count : {0, 1, 2, 100}) {
        auto list = cbox_blob_list_decode(encode(some(count)));
        ASSERT_TRUE(list) << list.error().message;
        EXPECT_EQ(*list, some(count));
    }
}

TEST(CboxBlobList, EachBlobIsFoundAndNoOther) {
    for (size_t count : {0, 1, 2, 3, 100}) {
        CboxBlobList list = some(count);
        std::string file = encode(list);
        auto entries = cbox_blob_list_entries(file);
        ASSERT_TRUE(entries);
        for (int first = 0; first < 256; first++)
            for (uint8_t last : {6, 7, 8}) {
                Guid guid = blob(static_cast<uint8_t>(first), last);
                bool there = last == 7 && first % 2 == 0 && static_cast<size_t>(first / 2) < count;
                EXPECT_EQ(cbox_blob_list_has(*entries, guid), there);
                EXPECT_EQ(cbox_blob_list_find(list, guid) != nullptr, there);
            }
    }
}

TEST(CboxBlobList, ADamagedFileIsRefused) {
    const std::string whole = encode(some(3));
    for (size_t at = 0; at < whole.size(); at++) {
        std::string damaged = whole;
        damaged[at] = static_cast<char>(damaged[at] ^ 1);
        EXPECT_FALSE(cbox_blob_list_decode(damaged)) << at;
        EXPECT_FALSE(cbox_blob_list_decode(whole.substr(0, at))) << at;
    }
    EXPECT_FALSE(cbox_blob_list_decode(whole + "x"));
    EXPECT_FALSE(cbox_blob_list_decode(encode({{blob(2, 7), 1}, {blob(1, 7), 1}}))) << "not in order";
    EXPECT_FALSE(cbox_blob_list_decode(encode({{blob(2, 7), 1}, {blob(2, 7), 2}}))) << "one twice";
}

// The example of docs/formats/cbox.md.
TEST(CboxBlobList, Example) {
    CboxBlobList list{{Guid::from("\x30\x31\x32\x33\x34\x35\x36\x37\x38\x39\x3a\x3b\x3c\x3d\x3e\x3f"), 0x6553f100}};
    EXPECT_EQ(to_hex(encode(list)), "63626f786c697374"
                                    "00000001"
                                    "00000001"
                                    "303132333435363738393a3b3c3d3e3f"
                                    "000000006553f100"
                                    "062469ad");
}

} // namespace
} // namespace replica
