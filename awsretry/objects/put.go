package objects

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/journal"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/retry"
)

// PutOptions set the attributes, the encryption and the preconditions of a put. The zero PutOptions set none.
type PutOptions struct {
	Attributes

	ACL types.ObjectCannedACL // who else may use the object; "" means the bucket's owner only

	Encryption types.ServerSideEncryption // by the server; "" means the bucket's default; for a key of your own see [Store.WithCustomerKey]
	KMSKeyID   string                     // the ID of the key, for aws:kms; "" means the server's default key

	// IfAbsent lets the put succeed only if the key has no object, and IfMatch only if the key's object has that ETag;
	// else the error wraps ErrCondition. A put with one of them writes an ID into the object's metadata
	// (perdure-write-id). By this ID, after a lost response, the put recognizes its own object. If the put cannot find
	// out whether it has stored the object, the error is an [*AmbiguousError].
	IfAbsent bool
	IfMatch  string

	// State, if not empty, is the path of a file that records a multipart upload. The next Put of the same source to
	// the same key, after a crash or a failure, sends only what is missing or has changed in the source. Put creates
	// the file, and removes it when the object is stored. After an error the parts stay in the store for the next
	// Put; see [Store.AbortUploads]. Only one Put at a time may use a file.
	State string

	// Resumed, if not nil, is called at most once, before the first request with data, by a Put that finds a recorded
	// upload in State.
	Resumed func(Resumption)

	// Progress, if not nil, is called after each part with the number of bytes stored and the total, which is -1 if
	// unknown. It is called by one goroutine at a time.
	Progress func(done, total int64)
}

// digest returns a digest of what the store sets when a multipart upload begins; "" if that is nothing.
func (o *PutOptions) digest() string {
	if o.settings() == new(PutOptions).settings() {
		return ""
	}
	sum := sha256.Sum256([]byte(o.settings()))
	return hex.EncodeToString(sum[:16])
}

// settings returns what digest is of.
func (o *PutOptions) settings() string {
	return fmt.Sprintf("%q", []any{
		o.ContentType, o.ContentEncoding, o.ContentLanguage, o.ContentDisposition, o.CacheControl, o.StorageClass,
		o.ACL, o.Encryption, o.KMSKeyID, o.Metadata, o.Tags, // fmt sorts maps
	})
}

// A State is the content of the state file of an upload: see [PutOptions].
type State struct {
	Endpoint, Bucket, Key string

	Upload string // the ID of the upload; "" means that no upload is recorded
	Size   int64  // of the object, in bytes; 0 or less means unknown
	Bytes  int64  // number of bytes in the parts that are stored
}

// ReadState reads a state file. If the file does not exist, the State is zero and the error nil.
func ReadState(path string) (State, error) {
	j, err := journal.Open(path)
	if err != nil {
		return State{}, err
	}
	defer j.Close()
	h := j.Head
	return State{Endpoint: h.Endpoint, Bucket: h.Bucket, Key: h.Key, Upload: h.Upload, Size: h.Size, Bytes: j.Bytes()}, nil
}

// PutFile uploads the file at path. See [Store.Put].
func (s *Store) PutFile(ctx context.Context, bucket, key, path string, o PutOptions) (Object, error) {
	f, err := os.Open(path)
	if err != nil {
		return Object{}, wrap("put", bucket, key, err)
	}
	defer func() { _ = f.Close() }() // it was only read
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return Object{}, wrap("put", bucket, key, fmt.Errorf("%s is a directory", path))
	}
	return s.Put(ctx, bucket, key, f, o)
}

// Put uploads what r holds from its current position on, and returns when the store has all of it, verified by
// checksum.
//
// A reader with ReadAt and Seek (a file, a [bytes.Reader], a [strings.Reader]) is read as often as needed, and not
// into memory; its position afterwards is undefined. Any other reader is read once, part by part; a part is held in
// memory until the store has it, and the end of ctx does not interrupt Read.
//
// A failed Put aborts its multipart upload, unless the abort fails too or [PutOptions.State] keeps the upload. It
// leaves an existing object as it was, unless the response was lost: see [AmbiguousError].
func (s *Store) Put(ctx context.Context, bucket, key string, r io.Reader, o PutOptions) (Object, error) {
	if s.customer && (o.Encryption != "" || o.KMSKeyID != "") {
		return Object{}, wrap("put", bucket, key, &retry.ConfigError{
			Field: "Encryption", Value: cmp.Or(string(o.Encryption), o.KMSKeyID), Want: "none: the Store has a customer key",
		})
	}
	u := &upload{store: s, bucket: bucket, key: key, o: o}
	object, err := u.put(ctx, r)
	return object, wrap("put", bucket, key, err)
}

// An upload is one Put.
type upload struct {
	store       *Store
	bucket, key string
	o           PutOptions
	src         *source.Source
	state       *journal.Journal // nil without PutOptions.State
	condition   condition
	composite   string // the ETag that most stores give an object of these parts

	crc     checksum.Sum // of the bytes sent
	body    *source.Part // the bytes sent, if they can be read again; else nil
	confirm bool         // the store has confirmed each part by checksum
}

func (u *upload) address() Address { return Address{Bucket: u.bucket, Key: u.key} }

// put sends what r holds, or what is missing according to the state file.
func (u *upload) put(ctx context.Context, r io.Reader) (object Object, err error) {
	partSize := u.store.partSize
	if u.o.State != "" {
		if u.state, err = journal.Recall(u.o.State, journal.Head{Endpoint: u.store.endpoint, Bucket: u.bucket, Key: u.key}); err != nil {
			return object, err
		}
		defer u.state.Close()
		u.condition.writeID = u.state.Head.WriteID
		partSize = cmp.Or(u.state.Head.PartSize, partSize)
	}
	if u.src, err = source.New(r, partSize, u.store.parallel, u.store.growth); err != nil {
		return object, err
	}
	if u.state != nil && u.state.Reason != "" {
		u.resumed(0, u.state.Reason)
	}
	if object, err = u.run(ctx); err == nil && u.state != nil {
		u.state.Remove()
	}
	return object, err
}

// run sends a small object in one request, and others in parts.
func (u *upload) run(ctx context.Context) (Object, error) {
	if u.src.Size > u.src.PartSize {
		return u.inParts(ctx, nil)
	}
	first, err := u.src.Next(ctx)
	if err == io.EOF { //nolint:errorlint // of Next itself: a source's error may hold another
		first, err = source.Empty(), nil
	}
	if err != nil {
		return Object{}, err
	}
	if !u.src.Drained {
		return u.inParts(ctx, first)
	}
	if u.state != nil && u.state.Head.Upload != "" { // the source was larger then
		if err := u.abortRecorded(ctx); err != nil {
			return Object{}, err
		}
	}
	return u.putWhole(ctx, first)
}

// inParts sends the object in parts; first is its first part if that has been read, else nil. S3 drops the parts if
// another put interferes with their completion: they are sent again from the start, as the policy says.
func (u *upload) inParts(ctx context.Context, first *source.Part) (Object, error) {
	var conflicts calls.Call
	start := time.Now()
	for {
		object, err := u.parts(ctx, first)
		if !isConflict(err) {
			return object, err
		}
		if !u.src.Rewind() {
			return object, fmt.Errorf("%w (not retried: the source is a stream that cannot be rewound)", err)
		}
		if err := u.store.waitRetry(ctx, &conflicts, start, err); err != nil {
			return object, err
		}
		first = nil
	}
}

// abortRecorded aborts the upload of the state file.
func (u *upload) abortRecorded(ctx context.Context) error {
	err := u.store.abort(ctx, u.bucket, u.key, u.state.Head.Upload, nil)
	u.state.Head.Upload = ""
	return err
}

// putWhole sends the object in one request.
func (u *upload) putWhole(ctx context.Context, body *source.Part) (Object, error) {
	crc, sha, err := body.Sums(u.store.signed)
	if err != nil {
		return Object{}, err
	}
	u.crc, u.body = crc32Of(crc), body
	object := Object{Size: body.Size()}
	out, err := u.store.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &u.bucket, Key: &u.key, Body: body, ContentLength: aws.Int64(body.Size()),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32, ChecksumCRC32: aws.String(encode(u.crc)),
		ContentType: optional(u.o.ContentType), ContentEncoding: optional(coding(u.o.ContentEncoding)),
		ContentLanguage: optional(u.o.ContentLanguage), ContentDisposition: optional(u.o.ContentDisposition),
		CacheControl: optional(u.o.CacheControl), Metadata: u.metadata(), Tagging: u.o.tagging(),
		StorageClass: types.StorageClass(u.o.StorageClass), ACL: u.o.ACL, ServerSideEncryption: u.o.Encryption, SSEKMSKeyId: optional(u.o.KMSKeyID),
		IfMatch: optional(u.o.IfMatch), IfNoneMatch: u.o.noneMatch(),
	}, wire.Watch(&u.condition.ambiguous), wire.Payload(sha))
	if err != nil {
		return u.resolve(ctx, err, object)
	}
	u.progress(object.Size)
	object.ETag, object.VersionID = aws.ToString(out.ETag), aws.ToString(out.VersionId)
	object.Checksum = text(whole([]header{{crcName, out.ChecksumCRC32}}, out.ChecksumType))
	return u.verified(ctx, object)
}

// verified returns the stored object, or an error if it differs from what was sent. It compares the checksum in the
// response, or, without one, that of a HEAD request.
func (u *upload) verified(ctx context.Context, o Object) (Object, error) {
	o.Bucket, o.Key = u.bucket, u.key
	o.Attributes = u.o.Attributes
	o.Metadata = u.metadata()
	sent, encrypted := text(u.crc), u.encrypted()
	if o.Checksum == "" {
		stored, err := u.store.head(ctx, Address{u.bucket, u.key, o.VersionID})
		switch {
		case err != nil:
			return o, fmt.Errorf("checking the stored object: %w", err)
		case !wire.SameTag(stored.ETag, o.ETag) && o.ETag != "":
			return o, fmt.Errorf("%w: stored with ETag %s, the key now has ETag %s", ErrChanged, o.ETag, stored.ETag)
		case stored.Size != o.Size:
			return o, fmt.Errorf("%w: %d bytes sent, %d stored", ErrChecksum, o.Size, stored.Size)
		}
		o, encrypted = stored, encrypted || stored.encrypted
	}
	var err error
	switch {
	case o.Checksum == sent:
		o.Verified = VerifiedByCRC32
	case strings.HasPrefix(o.Checksum, crcName+":"):
		err = fmt.Errorf("%w: sent %s, stored %s", ErrChecksum, sent, o.Checksum)
	case u.body != nil:
		o.Verified, err = referenceOf(o.Checksum, o.ETag, encrypted).read(u.body)
	case u.confirm:
		o.Verified = VerifiedByParts
	default:
		o.Verified = VerifiedBySize
	}
	return o, err
}

// encrypted reports whether the object is encrypted by the server, so that its ETag may not be an MD5.
func (u *upload) encrypted() bool { return u.o.Encryption != "" || u.store.customer }

// resumed reports to the caller how much an earlier Put has stored.
func (u *upload) resumed(done int64, reason string) {
	if u.o.Resumed != nil && (len(u.state.Parts) > 0 || u.state.Reason != "") {
		u.o.Resumed(Resumption{Bytes: done, Size: u.src.Size, Reason: reason})
	}
}

func (u *upload) progress(done int64) {
	if u.o.Progress != nil {
		u.o.Progress(done, u.src.Size)
	}
}
