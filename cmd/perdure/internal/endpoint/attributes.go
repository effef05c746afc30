package endpoint

import (
	"mime"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// Settings are the attributes of the objects that are written, in place of those of their sources. Metadata and tags are
// replaced whole. The zero Settings set none.
type Settings struct {
	Attributes

	ACL string // a canned ACL; "" means the bucket's owner only

	flag, value string // as given first; "" if none is
}

// The limits of S3, in bytes, tags and characters.
const (
	maxHeaders  = 2 << 10 // of all headers or all metadata, names and values
	maxTags     = 10
	maxTagKey   = 128
	maxTagValue = 256
)

// SettingFlags returns the names of the flags that Set takes.
func SettingFlags() []string {
	return []string{"content-type", "content-encoding", "content-language", "content-disposition", "cache-control", "metadata", "storage-class", "tag", "acl"}
}

// Set sets the attribute of a flag.
func (s *Settings) Set(flag, value string) (err error) {
	switch flag {
	case "metadata":
		err = s.setMetadata(value)
	case "tag":
		err = s.setTag(value)
	default:
		err = s.setOne(flag, value)
	}
	if s.flag == "" {
		s.flag, s.value = "--"+flag, value
	}
	return err
}

// setOne sets an attribute that is one text.
func (s *Settings) setOne(flag, value string) error {
	if names := acls(); flag == "acl" && !slices.Contains(names, value) {
		return setting.Unknown("--acl", value, names)
	}
	if want := unlike(flag, value); want != "" {
		return setting.Bad("--"+flag, value, want)
	}
	*map[string]*string{
		"content-type": &s.ContentType, "content-encoding": &s.ContentEncoding, "content-language": &s.ContentLanguage,
		"content-disposition": &s.ContentDisposition, "cache-control": &s.CacheControl, "storage-class": &s.StorageClass, "acl": &s.ACL,
	}[flag] = value
	size := 0
	for name, value := range map[string]string{
		"Content-Type": s.ContentType, "Content-Encoding": s.ContentEncoding, "Content-Language": s.ContentLanguage,
		"Content-Disposition": s.ContentDisposition, "Cache-Control": s.CacheControl,
	} {
		if value != "" {
			size += len(name) + len(value)
		}
	}
	if size > maxHeaders {
		return setting.Bad("--"+flag, value, "at most 2048 bytes with the names and values of the other headers of the object")
	}
	return nil
}

// unlike returns what the value of a flag must be; "" if it is that.
func unlike(flag, value string) string {
	valid, want := plain(value), "printable ASCII without spaces at its ends"
	switch flag {
	case "content-type":
		kind, _, err := mime.ParseMediaType(value)
		valid, want = valid && err == nil && strings.Contains(kind, "/"), "a media type, such as text/csv; charset=utf-8"
	case "content-encoding":
		valid, want = tokens(value) && !strings.Contains(strings.ToLower(value), "aws-chunked"), "names of encodings, such as gzip; aws-chunked is not one of an object"
	case "content-language":
		valid, want = tokens(value), "language tags, such as de or pt-BR, separated by commas"
	case "storage-class":
		valid, want = token(value), "the name of a storage class, such as STANDARD_IA"
		if upper := strings.ToUpper(value); valid && upper != value && slices.Contains(types.StorageClass("").Values(), types.StorageClass(upper)) {
			valid, want = false, "in capitals: "+upper
		}
	}
	if valid {
		return ""
	}
	return want
}

// acls returns the names of the canned ACLs.
func acls() (names []string) {
	for _, v := range types.ObjectCannedACL("").Values() {
		names = append(names, string(v))
	}
	return names
}

// setMetadata sets name=value. S3 has names in lower case.
func (s *Settings) setMetadata(text string) error {
	name, value, found := strings.Cut(text, "=")
	name = strings.ToLower(name)
	switch {
	case !found || value == "":
		return setting.Bad("--metadata", text, "name=value, such as run=2024-01; a value is not empty")
	case !token(name) || strings.HasPrefix(name, "x-amz-"):
		return setting.Bad("--metadata", text, "name=value with a name of letters, digits and -_.!#$&'*+^`|~, without x-amz-meta-")
	case !plain(value):
		return setting.Bad("--metadata", text, "name=value with a value of printable ASCII without spaces at its ends")
	case s.Metadata[name] != "":
		return setting.Bad("--metadata", text, "given once for each name, in capitals or not")
	}
	size := len(name) + len(value)
	for name, value := range s.Metadata {
		size += len(name) + len(value)
	}
	if size > maxHeaders {
		return setting.Bad("--metadata", text, "at most 2048 bytes in all, names and values of all --metadata together")
	}
	if s.Metadata == nil {
		s.Metadata = make(map[string]string)
	}
	s.Metadata[name] = value
	return nil
}

// setTag sets name=value.
func (s *Settings) setTag(text string) error {
	name, value, found := strings.Cut(text, "=")
	_, known := s.Tags[name]
	switch {
	case !found || name == "":
		return setting.Bad("--tag", text, "name=value, such as team=bikes")
	case utf8.RuneCountInString(name) > maxTagKey || utf8.RuneCountInString(value) > maxTagValue:
		return setting.Bad("--tag", text, "name=value with at most 128 characters in the name and 256 in the value")
	case !taggable(name) || !taggable(value) || strings.HasPrefix(strings.ToLower(name), "aws:"):
		return setting.Bad("--tag", text, "name=value of letters, digits, spaces and +-=._:/@; the name does not begin with aws:")
	case known:
		return setting.Bad("--tag", text, "given once for each name")
	case len(s.Tags) == maxTags:
		return setting.Bad("--tag", text, "one of at most 10 tags")
	}
	if s.Tags == nil {
		s.Tags = make(map[string]string)
	}
	s.Tags[name] = value
	return nil
}

// plain reports whether text is not empty and can be the value of a header as it is.
func plain(text string) bool {
	return text != "" && strings.TrimSpace(text) == text && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// token reports whether text can be the name of a header.
func token(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// tokens reports whether text is a list of tokens.
func tokens(text string) bool {
	for one := range strings.SplitSeq(text, ",") {
		if !token(strings.Trim(one, " ")) {
			return false
		}
	}
	return plain(text)
}

// taggable reports whether text can be the name or the value of a tag.
func taggable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.Is(unicode.Z, r) && !strings.ContainsRune("+-=._:/@", r)
	})
}
