#include "plugin/fs_s3/s3-answer.hpp"
#include <expat.h>
#include <memory>

namespace replica::s3 {

namespace {

constexpr size_t depth_max = 8;

struct Scan {
    XML_Parser parser;
    Document document;
    std::vector<std::string> places; // one for each open element below the root
    size_t depth = 0;
    std::string text;
};

void element_begins(void *context, const XML_Char *name, const XML_Char **) {
    auto *scan = static_cast<Scan *>(context);
    if (++scan->depth > depth_max) {
        XML_StopParser(scan->parser, XML_FALSE);
    } else if (scan->depth == 1) {
        scan->document.root = name;
    } else {
        scan->places.push_back(scan->places.empty() ? name : scan->places.back() + "/" + name);
    }
    scan->text.clear();
}

void element_ends(void *context, const XML_Char *) {
    auto *scan = static_cast<Scan *>(context);
    scan->depth--;
    if (!scan->places.empty()) {
        scan->document.fields.push_back({std::move(scan->places.back()), std::move(scan->text)});
        scan->places.pop_back();
    }
    scan->text.clear();
}

void text_comes(void *context, const XML_Char *text, int size) {
    static_cast<Scan *>(context)->text.append(text, static_cast<size_t>(size));
}

void doctype_begins(void *context, const XML_Char *, const XML_Char *, const XML_Char *, int) {
    XML_StopParser(static_cast<Scan *>(context)->parser, XML_FALSE);
}

} // namespace

std::string_view Document::text(std::string_view place) const {
    for (const auto &field : fields)
        if (field.place == place) return field.text;
    return {};
}

std::optional<Document> parse_document(std::string_view xml) {
    std::unique_ptr<std::remove_pointer_t<XML_Parser>, void (*)(XML_Parser)> parser(XML_ParserCreate(nullptr),
                                                                                    XML_ParserFree);
    if (parser == nullptr) return {};
    Scan scan{.parser = parser.get()};
    XML_SetUserData(parser.get(), &scan);
    XML_SetElementHandler(parser.get(), element_begins, element_ends);
    XML_SetCharacterDataHandler(parser.get(), text_comes);
    XML_SetStartDoctypeDeclHandler(parser.get(), doctype_begins);
    if (XML_Parse(parser.get(), xml.data(), static_cast<int>(xml.size()), XML_TRUE) != XML_STATUS_OK) return {};
    return std::move(scan.document);
}

std::optional<ErrorAnswer> parse_error(std::string_view xml) {
    auto document = parse_document(xml);
    if (!document || document->root != "Error" || document->text("Code").empty()) return {};
    return ErrorAnswer{std::string(document->text("Code")), std::string(document->text("Message")),
                       std::string(document->text("Region"))};
}

std::optional<ListPage> parse_list(std::string_view xml) {
    auto document = parse_document(xml);
    if (!document || document->root != "ListBucketResult") return {};
    ListPage page;
    for (auto &field : document->fields) {
        if (field.place == "Contents/Key") page.keys.push_back(std::move(field.text));
        if (field.place == "CommonPrefixes/Prefix") page.folders.push_back(std::move(field.text));
    }
    page.next = document->text("NextContinuationToken");
    if (document->text("IsTruncated") != "true")
        page.next.clear();
    else if (page.next.empty())
        return {}; // there is more, and no way to it
    return page;
}

bool is_answer(std::string_view xml, std::string_view root) {
    auto document = parse_document(xml);
    return document && document->root == root;
}

std::string parse_upload_id(std::string_view xml) {
    auto document = parse_document(xml);
    return document && document->root == "InitiateMultipartUploadResult" ? std::string(document->text("UploadId")) : "";
}

std::string escape_xml(std::string_view text) {
    std::string out;
    for (char c : text) {
        if (c == '&')
            out += "&amp;";
        else if (c == '<')
            out += "&lt;";
        else if (c == '>')
            out += "&gt;";
        else if (c == '"')
            out += "&quot;";
        else
            out += c;
    }
    return out;
}

} // namespace replica::s3
