package objects

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // as ETag
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/seed-0f2c7998/perdure/awsretry/internal/journal"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/source"
	"github.com/seed-0f2c7998/perdure/awsretry/internal/wire"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// A multipart is an upload in parts.
type multipart struct {
	*upload

	id    string
	known map[int]journal.Part // parts stored by an earlier process

	outdated string // why the upload of an earlier process was aborted; "" if it was not

	mu    sync.Mutex
	sent  []journal.Part // stored parts, by number; guarded by mu
	bytes int64          // stored, by this process or an earlier one; guarded by mu
}

// parts sends the object in parts; first is its first part if that has been read, else nil.
func (u *upload) parts(ctx context.Context, first *source.Part) (object Object, err error) {
	m := &multipart{upload: u}
	if u.state != nil && u.state.Head.Upload != "" {
		err = m.resume(ctx)
		if err == nil && m.id == "" {
			if object, ok := m.stored(ctx); ok {
				return object, nil
			}
			m.resumed(0, cmp.Or(m.outdated, "the store no longer has the parts of the earlier run"))
		}
	}
	if err == nil && m.id == "" {
		err = m.create(ctx)
	}
	if err != nil {
		if first != nil {
			first.Release()
		}
		return object, err
	}
	if err = m.send(ctx, first); err == nil {
		object, err = m.complete(ctx)
	}
	switch {
	case isConflict(err) && u.state != nil:
		u.state.Head.Upload = "" // its parts are of no use any more
		fallthrough
	case err != nil && u.state == nil:
		err = u.store.abort(ctx, u.bucket, u.key, m.id, err)
	}
	return object, err
}

// create begins a new upload.
func (m *multipart) create(ctx context.Context) error {
	if err := m.precheck(ctx); err != nil {
		return err
	}
	longer, cancel := withGracePeriod(ctx)
	defer cancel()
	create := m.o.multipart(m.bucket, m.key)
	create.ChecksumAlgorithm, create.ChecksumType = types.ChecksumAlgorithmCrc32, types.ChecksumTypeFullObject
	create.Metadata, create.ACL, create.ServerSideEncryption, create.SSEKMSKeyId = m.metadata(), m.o.ACL, m.o.Encryption, optional(m.o.KMSKeyID)
	created, err := m.store.client.CreateMultipartUpload(longer, create)
	if err != nil {
		return err
	}
	m.id = aws.ToString(created.UploadId)
	if m.state == nil {
		return nil
	}
	if err := m.state.Begin(journal.Head{
		Endpoint: m.store.endpoint, Bucket: m.bucket, Key: m.key, Upload: m.id, PartSize: m.src.PartSize, Size: m.src.Size,
		WriteID: m.condition.writeID, CustomerKey: m.store.customer, Attributes: m.o.digest(),
	}); err != nil {
		return m.store.abort(ctx, m.bucket, m.key, m.id, err)
	}
	return nil
}

// resume finds the upload of the state file in the store, and the parts on which the store and the file agree. If the
// store no longer has the upload, resume leaves m unchanged.
func (m *multipart) resume(ctx context.Context) error {
	unnamed := m.o.conditional() && m.condition.writeID == "" // begun without a condition, and so without a write ID
	if unnamed || m.state.Head.CustomerKey != m.store.customer {
		return m.abortRecorded(ctx)
	}
	if m.state.Head.Attributes != m.o.digest() {
		m.outdated = "the earlier run has begun the upload with other attributes"
		return m.abortRecorded(ctx)
	}
	m.condition.resumed = true
	id := m.state.Head.Upload
	known := make(map[int]journal.Part)
	for p, err := range m.store.listParts(ctx, m.bucket, m.key, id) {
		if wire.HasCode(err, "NoSuchUpload") {
			return nil
		}
		if err != nil {
			return err
		}
		n := int(aws.ToInt32(p.PartNumber)) - 1
		if m.src.Size >= 0 && int64(n)*m.src.PartSize >= m.src.Size {
			continue // the source was larger then
		}
		if own := m.state.Parts[n]; own.ETag != "" && wire.SameTag(own.ETag, aws.ToString(p.ETag)) && own.Size == aws.ToInt64(p.Size) {
			known[n] = own
		}
	}
	for _, p := range known {
		m.bytes += p.Size
	}
	m.id, m.known = id, known
	m.resumed(m.bytes, "")
	return nil
}

// send sends all parts, some at a time, until the first error.
func (m *multipart) send(ctx context.Context, p *source.Part) error {
	ctx, fail, end := transfer.Together(ctx)
	defer func() { _ = end() }()
	var group sync.WaitGroup
	defer group.Wait() // the parts read the caller's source
	for n := 0; ; n++ {
		var err error
		if p == nil {
			p, err = m.src.Next(ctx)
		}
		if err == io.EOF { //nolint:errorlint // of Next itself: a source's error may hold another
			break
		}
		if err == nil && n == source.MaxParts {
			p.Release()
			err = fmt.Errorf("more than %d parts, the first of %d bytes: set a larger PartSize", source.MaxParts, m.src.PartSize)
		}
		if err != nil {
			fail(err)
			break
		}
		m.reserve(n)
		sending := p
		p = nil
		group.Go(func() {
			defer sending.Release()
			fail(m.sendPart(ctx, n, sending))
		})
	}
	group.Wait()
	return end()
}

// reserve makes room for part n.
func (m *multipart) reserve(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.sent) <= n {
		m.sent = append(m.sent, journal.Part{})
	}
}

// sendPart sends one part, unless the store has it.
func (m *multipart) sendPart(ctx context.Context, n int, p *source.Part) error {
	crc, sha, err := p.Sums(m.store.signed)
	if err != nil {
		return err
	}
	known := m.known[n]
	if known.ETag != "" && known.CRC == uint64(crc) && known.Size == p.Size() {
		m.markStored(known, 0)
		return nil
	}
	out, err := m.store.client.UploadPart(ctx, &s3.UploadPartInput{
		Bucket: &m.bucket, Key: &m.key, UploadId: &m.id, PartNumber: number(n),
		Body: p, ContentLength: aws.Int64(p.Size()),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32, ChecksumCRC32: aws.String(encode(crc32Of(crc))),
	}, wire.Payload(sha), p.Slot.Attempts)
	sent := journal.Part{Number: n, Size: p.Size(), CRC: uint64(crc)}
	if err == nil {
		sent.ETag = aws.ToString(out.ETag)
		sent.Verified, err = m.confirmed(out, crc, p)
	}
	if err == nil && m.state != nil {
		err = m.state.Add(sent)
	}
	if err != nil {
		return fmt.Errorf("part %d: %w", n+1, err)
	}
	m.markStored(sent, sent.Size-known.Size)
	return nil
}

// markStored records a stored part, which added that many bytes.
func (m *multipart) markStored(p journal.Part, more int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent[p.Number] = p
	m.bytes += more
	m.progress(m.bytes)
}

// confirmed reports whether the store confirmed the part by a checksum.
func (m *multipart) confirmed(out *s3.UploadPartOutput, crc uint32, p *source.Part) (bool, error) {
	if got := aws.ToString(out.ChecksumCRC32); got != "" {
		if want := encode(crc32Of(crc)); got != want {
			return false, fmt.Errorf("%w: crc32 is %s here and %s in the store", ErrChecksum, want, got)
		}
		return true, nil
	}
	by, err := referenceOf("", aws.ToString(out.ETag), m.encrypted() || out.ServerSideEncryption != "").read(p)
	return by == "md5", err
}

// complete completes the upload.
func (m *multipart) complete(ctx context.Context) (Object, error) {
	var object Object
	crc, verified := uint64(0), true
	etags := md5.New() //nolint:gosec // as S3 does
	parts := make([]types.CompletedPart, len(m.sent))
	for i, p := range m.sent {
		parts[i] = types.CompletedPart{PartNumber: number(i), ETag: aws.String(p.ETag), ChecksumCRC32: aws.String(encode(checksum.FromCRC(crcName, p.CRC)))}
		crc = checksum.Combine(crcName, crc, p.CRC, p.Size)
		object.Size += p.Size
		verified = verified && p.Verified
		tag, _ := hex.DecodeString(strings.Trim(p.ETag, `"`))
		_, _ = etags.Write(tag)
	}
	m.composite = fmt.Sprintf(`"%x-%d"`, etags.Sum(nil), len(parts))
	m.crc, m.confirm = checksum.FromCRC(crcName, crc), verified
	out, err := m.store.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &m.bucket, Key: &m.key, UploadId: &m.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
		ChecksumType:    types.ChecksumTypeFullObject, ChecksumCRC32: aws.String(encode(m.crc)),
		MpuObjectSize: aws.Int64(object.Size), IfMatch: optional(m.o.IfMatch), IfNoneMatch: m.o.noneMatch(),
	}, wire.Watch(&m.condition.ambiguous))
	if err != nil {
		return m.resolve(ctx, err, object)
	}
	object.ETag, object.VersionID = aws.ToString(out.ETag), aws.ToString(out.VersionId)
	object.Checksum = text(whole([]header{{crcName, out.ChecksumCRC32}}, out.ChecksumType))
	return m.verified(ctx, object)
}

// abort aborts an upload because of err, even if ctx has ended, and returns err.
func (s *Store) abort(ctx context.Context, bucket, key, id string, err error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	_, failed := s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &bucket, Key: &key, UploadId: &id}, s.cleanup)
	switch {
	case failed == nil || wire.HasCode(failed, "NoSuchUpload"):
		return err
	case err == nil:
		return failed
	default:
		return fmt.Errorf("%w (and the parts of upload %s are still in the store: %w)", err, id, failed)
	}
}

// number returns the number of a part as S3 counts, from 1.
func number(n int) *int32 {
	return aws.Int32(int32(n) + 1) //nolint:gosec // at most source.MaxParts
}
