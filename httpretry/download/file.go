// Package download downloads one resource over HTTP into a file. It downloads large resources in parallel ranges if the
// server supports ranges, resumes what an earlier process has begun, and verifies the result.
//
//	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
//	...
//	result, err := download.File(req, "stations.csv", download.Options{})
//
// Retries are those of the transport, which also resumes bodies that break (package httpretry).
package download

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// Errors that an error of [File] may wrap. Test for them with [errors.Is].
var (
	// ErrChanged reports that the resource kept changing during the download.
	ErrChanged = httpretry.ErrChanged
	// ErrChecksum reports that the checksum of the bytes differs from that in the header, or from Options.Checksum.
	ErrChecksum = checksum.ErrMismatch
)

const minPiece = 64 << 10

// Options configure [File]. The zero Options are ready for use.
type Options struct {
	// Client sends the requests. If nil, httpretry.Client(nil) does.
	Client *http.Client
	// Parallel is the number of ranges that are requested at the same time, without a maximum. 0 means 4; 1 and negative
	// values mean one range after the other.
	Parallel int
	// Piece is the size of each request after the first in bytes. 0 means 8 MiB; any other value below 64 KiB means
	// 64 KiB.
	Piece int64
	// Checksum is the checksum that the file must have: an algorithm (sha256, sha512, sha1, md5, crc32, crc32c, crc64nvme),
	// a colon, and the value in hex or base64. If empty, only the digests in the server's headers are compared.
	Checksum string
	// NoResume discards the bytes that an earlier process has left, and leaves no bytes for a later process.
	NoResume bool
	// Perm is the permissions of a new file, before the umask; 0 means 0666. An existing file keeps its permissions.
	Perm fs.FileMode

	// Progress, if not nil, is called after each write with the number of bytes downloaded and the total, which is -1 if
	// unknown. It is called from one goroutine at a time; the download waits for it.
	Progress func(done, total int64)
	// Resumed, if not nil, is called at most once, before the first write, if an earlier process has left a part of
	// the file. The download waits for it.
	Resumed func(Resumption)
}

// A Resumption describes the part of a file that an earlier process has left.
type Resumption struct {
	Bytes, Size int64  // the number of bytes that are kept, and the size of the resource, -1 if unknown; a Bytes of 0 means that the download begins from scratch
	Reason      string // why the download begins from scratch; "" if it does not
}

// A Result is the result of a download.
type Result struct {
	Bytes    int64       // bytes in the file or, after an error, kept beside it for a later call
	Checksum string      // the checksum of all bytes, in the form of Options.Checksum
	Verified string      // the algorithm of the checksum that was compared; "size" if only the size was compared, "" if neither was
	Resumed  int64       // bytes that an earlier process had left
	Header   http.Header // of the first response with this version of the resource; nil without a response
}

// File downloads the resource of req, a GET, and writes it to path. It replaces the file at path once the download is
// complete, verified and synced to the disk; until then the file at path is unchanged.
//
// If the download fails or its process ends, the received bytes stay beside path, in a hidden directory of this user. The
// next call for the same resource and path resumes from them, if a strong ETag or a Last-Modified shows that the resource
// has not changed. User, password and fragment of the URL may differ, and so may the signature of a signed URL of S3,
// Google or Azure: the hash of the URL that is kept does not include them. A file never has bytes of two versions: if the
// resource changes during the download, or its digest does not match the header, the download restarts from scratch, up to
// twice.
//
// File requests no content coding and decodes nothing. The end of req's context ends the download. File is safe for
// concurrent use; calls for the same path download independently, and one may fail because another replaced the file at
// the same moment.
//
// The error is that of the client, of [httpretry.GaveUp], a [*httpretry.StatusError], an error of the file system,
// [ErrTruncatable], an error that wraps [ErrChanged] or [ErrChecksum], or, if req is not a GET or Options.Checksum is
// invalid, a *retry.ConfigError.
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

// engine returns o as options of the transfer engine.
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
	if err := t.Want.UnmarshalText([]byte(o.Checksum)); err != nil {
		return t, setting.Bad("Checksum", o.Checksum, checksum.Want)
	}
	return t, nil
}

// source returns a text that identifies the resource at u to a later process: a hash of the URL without user, password,
// fragment and the signature of a signed URL of S3, Google or Azure.
func source(u *url.URL) string {
	address := *u
	address.User, address.Fragment, address.RawFragment = nil, "", ""
	query := address.Query()
	maps.DeleteFunc(query, func(name string, _ []string) bool { return isSignature(strings.ToLower(name)) })
	address.RawQuery = query.Encode()
	sum := sha256.Sum256([]byte(address.String()))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// isSignature reports whether a query parameter belongs to a signature.
func isSignature(name string) bool {
	switch name {
	case "awsaccesskeyid", "googleaccessid", "expires", "signature", "policy", "key-pair-id",
		"sig", "se", "st", "skt", "ske": // these five of Azure
		return true
	}
	return strings.HasPrefix(name, "x-amz-") || strings.HasPrefix(name, "x-goog-")
}
