// Package download downloads one resource over HTTP into a file: in parallel ranges if the resource is large and the server
// serves ranges, resumed by a later process if one was not enough, and verified.
//
//	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
//	...
//	result, err := download.File(req, "stations.csv", download.Options{})
//
// It makes no retries: those are the transport's, which also resumes bodies that break (package httpretry).
package download

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// What errors of [File] may wrap. Test for them with [errors.Is].
var (
	// ErrChanged reports that the resource was replaced again and again during the download.
	ErrChanged = httpretry.ErrChanged
	// ErrChecksum reports that the bytes have a different checksum than the server says, or than Options.Checksum.
	ErrChecksum = checksum.ErrMismatch
)

const minPiece = 64 << 10

// Options configures [File]. The zero Options are ready for use.
type Options struct {
	// Client makes the requests. If nil, it is httpretry.Client(nil).
	Client *http.Client
	// Parallel is the number of requests that are made at a time; 0 means 4, negative means 1.
	Parallel int
	// Piece is how many bytes one request asks for, after the first; 0 means 8 MiB, the least is 64 KiB.
	Piece int64
	// Checksum is what the file must have: an algorithm (sha256, sha512, sha1, md5, crc32, crc32c, crc64nvme), a colon, and
	// the value in hex or base64. If empty, only the digests are compared that the server offers.
	Checksum string
	// NoResume discards what an earlier process has left, and leaves nothing.
	NoResume bool
	// Perm is the permissions of a file that is not there yet, less the umask; 0 means 0666. A file that is there keeps its own.
	Perm fs.FileMode

	// Progress, if not nil, is called after each write with how many bytes there are, and of how many; -1 means unknown. It
	// is called by one goroutine at a time.
	Progress func(done, total int64)
	// Resumed, if not nil, is called at most once, before the first write, if an earlier process has left something.
	Resumed func(Resumption)
}

// A Resumption says what an earlier process has left of a file.
type Resumption struct {
	Bytes, Size int64  // that are kept, of how many; Bytes is 0 if the download begins from scratch
	Reason      string // why it begins from scratch
}

// A Result is what a download has come to.
type Result struct {
	Bytes    int64       // in the file or, after an error, kept beside it for a later call
	Checksum string      // of all bytes: an algorithm, a colon, and the value, as Options.Checksum
	Verified string      // the algorithm of the checksum that was compared, "size" if there was only that, or empty
	Resumed  int64       // bytes that an earlier process had left
	Header   http.Header // of the first response that brought this version of the resource; nil if there was none
}

// File downloads what req, a GET, requests, and puts it at path, in place of what is there, when it is complete, verified
// and on the disk. Until then path is as it was.
//
// What has come when a download fails or its process ends stays beside path, in a hidden directory of this user's, and the
// next call for the same resource and path resumes from there, if a strong ETag or a Last-Modified shows that the resource
// is still the same. User, password and fragment of the URL may differ, and so may the signature of a
// signed URL of S3, Google or Azure: the URL's hash is kept, without these. A file is never put together from two
// versions: if the resource changes meanwhile, or arrives with another digest than the server says, it is fetched from
// scratch, up to twice.
//
// The bytes are those that the server sends: File asks for no coding and decodes nothing. The context of req ends the
// download. File may be called by several goroutines at once. Those for one path download each for itself, and one may fail because
// another replaced its file at the same moment.
//
// The error is that of the client, what [httpretry.GaveUp] says of a response, a [*httpretry.StatusError], one of
// the file system, [ErrTruncatable], or one that wraps [ErrChanged] or [ErrChecksum].
func File(req *http.Request, path string, o Options) (result Result, err error) {
	if req.Method != "" && req.Method != http.MethodGet {
		return result, setting.Bad("method", req.Method, http.MethodGet)
	}
	options, err := o.engine(req)
	if err != nil {
		return result, err
	}
	g := newGetter(req, o.Client)
	all, err := transfer.ToFile(req.Context(), path, g, options)
	return Result{
		Bytes: all.Bytes, Checksum: all.Checksum.String(), Verified: all.Verified, Resumed: all.Resumed, Header: g.Header(),
	}, err
}

// engine returns o as the engine takes it.
func (o Options) engine(req *http.Request) (transfer.Options, error) {
	t := transfer.Options{
		Source: source(req.URL), Parallel: o.Parallel, Piece: o.Piece, NoResume: o.NoResume, Perm: o.Perm, Progress: o.Progress,
	}
	if t.Piece != 0 {
		t.Piece = max(t.Piece, minPiece)
	}
	if o.Resumed != nil {
		t.Resumed = func(r transfer.Resumption) { o.Resumed(Resumption(r)) }
	}
	if o.Checksum == "" {
		return t, nil
	}
	var err error
	if t.Want, err = checksum.Parse(o.Checksum); err != nil {
		return t, setting.Bad("Checksum", o.Checksum, checksum.Want)
	}
	return t, nil
}

// source returns a text that identifies the resource at u to a later process: a hash of the address without user,
// password and fragment, and without what a signed URL of S3, Google or Azure has anew each time.
func source(u *url.URL) string {
	address := *u
	address.User, address.Fragment, address.RawFragment = nil, "", ""
	query := address.Query()
	for name := range query {
		if isSignature(strings.ToLower(name)) {
			query.Del(name)
		}
	}
	address.RawQuery = query.Encode()
	sum := sha256.Sum256([]byte(address.String()))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// isSignature reports whether a parameter of a query is part of a signature.
func isSignature(name string) bool {
	switch name {
	case "awsaccesskeyid", "googleaccessid", "expires", "signature", "policy", "key-pair-id",
		"sig", "se", "st", "skt", "ske": // the last ones of Azure
		return true
	}
	return strings.HasPrefix(name, "x-amz-") || strings.HasPrefix(name, "x-goog-")
}
