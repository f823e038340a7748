// The XML of the few answers that are read: errors, lists, uploads. By expat, without document types, entities of its
// own or depth: what is not such an answer is none.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace replica::s3 {

// A document as a flat list: where a text stands, below the root, and the text.
struct Document {
    struct Field {
        std::string place; // "Contents/Key"
        std::string text;
    };
    std::string root;
    std::vector<Field> fields;

    std::string_view text(std::string_view place) const; // of the first there, or empty
};
std::optional<Document> parse_document(std::string_view xml);

struct ErrorAnswer {
    std::string code, message, region;
};
std::optional<ErrorAnswer> parse_error(std::string_view xml);

struct ListPage {
    std::vector<std::string> keys, folders; // whole keys; folders end in the delimiter
    std::string next;                       // continuation token; empty: this was the last page
};
std::optional<ListPage> parse_list(std::string_view xml);

// CopyObject and CompleteMultipartUpload: 200 may still turn out to be an error. Not every server tells an ETag.
bool is_answer(std::string_view xml, std::string_view root);
std::string parse_upload_id(std::string_view xml); // or empty

std::string escape_xml(std::string_view text);

} // namespace replica::s3
