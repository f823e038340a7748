#include "plugin/fs_s3/fs-s3.hpp"
#include "plugin/fs_s3/s3-answer.hpp"

namespace replica::s3 {

namespace {

struct Listing {
    std::string folder; // the prefix of its keys, ends in a slash unless empty
    ListPage page;
    size_t at = 0;
    bool begun = false, failed = false;
    std::string name; // given out
};

struct S3Iter {
    struct fs_iter iter; // freed by lib-fs
    Listing *listing;
};
Listing &listing_of(struct fs_iter *iter) { return *reinterpret_cast<S3Iter *>(iter)->listing; }

bool next_page(struct fs_iter *iter, Listing &listing) {
    if (listing.failed || (listing.begun && listing.page.next.empty())) return false;
    Operation operation{.method = "GET", .query = {{"list-type", "2"}, {"delimiter", "/"}, {"prefix", listing.folder}}};
    if (listing.begun) operation.query.emplace_back("continuation-token", listing.page.next);
    listing.begun = true;
    listing.at = 0;
    Outcome outcome = s3_fs(iter->fs).client->run(std::move(operation));
    auto page = parse_list(outcome.text);
    if (outcome.error == 0 && page) {
        listing.page = std::move(*page);
        return true;
    }
    listing.failed = true;
    if (outcome.error == 0) {
        outcome.error = EIO;
        outcome.sentence =
            s3_fs(iter->fs).client->location().name_of(listing.folder) + ": the server's list cannot be read";
    }
    set_error(iter->event, outcome);
    return false;
}

} // namespace

struct fs_iter *iter_alloc() {
    auto *iter = i_new(S3Iter, 1);
    iter->listing = new Listing;
    return &iter->iter;
}

void iter_init(struct fs_iter *iter, const char *path, enum fs_iter_flags) {
    listing_of(iter).folder = s3_fs(iter->fs).client->location().folder_of(path);
}

const char *iter_next(struct fs_iter *iter) {
    Listing &listing = listing_of(iter);
    bool folders = (iter->flags & FS_ITER_FLAG_DIRS) != 0;
    for (;;) {
        const auto &entries = folders ? listing.page.folders : listing.page.keys;
        if (listing.at == entries.size()) {
            if (!next_page(iter, listing)) return nullptr;
            continue;
        }
        listing.name = entries[listing.at++].substr(listing.folder.size());
        if (folders) listing.name.pop_back();
        if (!listing.name.empty()) return listing.name.c_str();
    }
}

int iter_deinit(struct fs_iter *iter) {
    bool failed = listing_of(iter).failed;
    delete &listing_of(iter);
    return failed ? -1 : 0;
}

} // namespace replica::s3
