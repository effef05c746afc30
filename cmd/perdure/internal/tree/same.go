package tree

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/checksum"
)

// same reports whether a file and an object of that size are the same, and by
// which checksum. The size decides first, without any reading. Then comes the
// ETag, as long as that is the MD5 of the object; and if it is none, or another,
// as with encryption by a key of the owner's, the checksum of the whole object
// that the store has, which takes a request. When neither says that they are the
// same they are not.
func (r *run) same(ctx context.Context, f *os.File, i item, size int64) (string, bool) {
	info, err := f.Stat()
	if err != nil || info.Size() != size {
		return "", false
	}
	if sum, err := checksum.Parse("md5:" + strings.Trim(i.etag, `"`)); err == nil && has(ctx, f, sum, size) {
		return sum.String(), true
	}
	o, err := r.store.Stat(ctx, r.Bucket, i.key)
	if err != nil || o.Size != size { // copying will tell what is wrong
		return "", false
	}
	sum, err := checksum.Parse(o.Checksum)
	if err != nil || !has(ctx, f, sum, size) {
		return "", false
	}
	return sum.String(), true
}

// has reports whether a file has that checksum.
func has(ctx context.Context, f *os.File, sum checksum.Sum, size int64) bool {
	h := sum.New()
	buffer := make([]byte, min(256<<10, size+1)) // one more, to see the end
	for at := int64(0); ctx.Err() == nil; {
		n, err := f.ReadAt(buffer, at)
		h.Write(buffer[:n])
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return sum.Check(h) == nil
		}
		if err != nil {
			return false
		}
	}
	return false
}

// isDenied reports whether err is a store's saying that this is not allowed.
func isDenied(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == "AccessDenied"
}
