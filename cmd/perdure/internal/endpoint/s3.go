package endpoint

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/uploads"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

// An Object is an object of a store, or all whose keys begin with its own.
type Object struct {
	bucket, key string

	store    *objects.Store // nil: not connected
	session  *Session
	endpoint string // of the store; "" is AWS
	version  string // of the object; "": the present one
}

func parseObject(field, text string) (Endpoint, error) {
	_, rest, _ := strings.Cut(text, "://")
	bucket, key, _ := strings.Cut(rest, "/")
	if bucket == "" {
		return nil, setting.Bad(field, redact.String(text), "a bucket in it, as s3://bucket/key")
	}
	return &Object{bucket: bucket, key: key}, nil
}

// ParsePrefix reads an argument that names keys of a bucket: all of them, or those that begin with a prefix.
func ParsePrefix(text string) (*Object, error) {
	const want = "s3://BUCKET or s3://BUCKET/PREFIX"
	if name, _, _ := strings.Cut(text, "://"); !strings.EqualFold(name, "s3") || !strings.Contains(text, "://") {
		return nil, setting.Bad("argument", redact.String(text), want)
	}
	e, err := parseObject("argument", text)
	if err != nil {
		return nil, err
	}
	return e.(*Object), nil //nolint:errcheck,forcetypeassert // as parseObject makes it
}

func (o *Object) String() string { return "s3://" + o.bucket + "/" + o.key }

// Where returns the address with that of the store.
func (o *Object) Where() string {
	if o.endpoint == "" {
		return o.String()
	}
	return o.String() + " at " + redact.String(o.endpoint)
}

// Bucket returns the name of the bucket.
func (o *Object) Bucket() string { return o.bucket }

// Key returns the key.
func (o *Object) Key() string { return o.key }

// Base returns the last part of the key.
func (o *Object) Base() string { return base(path.Base(o.key)) }

// Named returns the object of that name if the key is none or ends in a slash.
func (o *Object) Named(name string) (Endpoint, bool) {
	if o.key != "" && !strings.HasSuffix(o.key, "/") {
		return o, false
	}
	named := *o
	named.key += name
	return &named, true
}

// Check wants a key, which a store can have.
func (o *Object) Check(field string, as Role) error {
	switch {
	case as == Source && o.key == "":
		return setting.Bad(field, strings.TrimSuffix(o.String(), "/"), "one object, as s3://bucket/key")
	case as == Destination && !utf8.ValidString(o.key):
		return setting.Bad(field, o.String(), "a key that is UTF-8")
	}
	return nil
}

// Is compares bucket and key.
func (o *Object) Is(other Endpoint) bool {
	p, ok := other.(*Object)
	return ok && o.bucket == p.bucket && o.key == p.key
}

// Connect makes the client of the store.
func (o *Object) Connect(ctx context.Context, s *Session, as Role) error {
	if as == Source {
		o.version = s.VersionID
		return o.connect(ctx, s, as, "s3_download", "download_from_s3")
	}
	return o.connect(ctx, s, as, "s3_upload", "upload_to_s3")
}

func (o *Object) connect(ctx context.Context, s *Session, as Role, preset, name string) error {
	p, err := s.policyOf(preset, name, as)
	if err != nil {
		return err
	}
	cfg, err := s.config(ctx)
	if err != nil {
		return err
	}
	o.session, s.stored, s.versioned = s, true, s.versioned || as == Source
	o.store, err = objects.New(cfg, objects.Options{Policy: p, Breakers: &s.Breaker, Registry: s.Registry, Parallel: s.Parallel, NoSignRequest: s.NoSignRequest, RequestPayer: s.RequestPayer, MinRate: s.MinRate}, func(so *s3.Options) {
		so.HTTPClient = countedClient{so.HTTPClient, &s.attempts}
		s.Patience.Apply(so, s.Registry.All)
		if s.EndpointURL != "" {
			so.BaseEndpoint = &s.EndpointURL // which the environment's own for S3 would hide
		}
		o.endpoint = aws.ToString(so.BaseEndpoint)
	})
	if err = cmp.Or(err, CheckURL(ofEnvironment, o.endpoint)); err != nil || s.CustomerKey == "" {
		return err
	}
	key, err := s.customerKey()
	if err == nil {
		o.store, err = o.store.WithCustomerKey(key)
	}
	return err
}

// customerKey reads the key once for both sides: the file may be a pipe.
func (s *Session) customerKey() ([]byte, error) {
	s.keyOnce.Do(func() { s.key, s.keyErr = readKey(s.CustomerKey) })
	return s.key, s.keyErr
}

// readKey reads a file with the 32 bytes of a key, or with their base64.
func readKey(path string) ([]byte, error) {
	const size, enough = 32, 1 << 10
	f, err := os.Open(path)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(f, enough)) // a device may have no end
		_ = f.Close()
	}
	if err != nil {
		return nil, setting.Bad("--sse-c-key", path, "a file that can be read ("+oneLine(err.Error())+")")
	}
	if len(text) == size {
		return text, nil
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != size { // what is wrong with it would tell of it
		return nil, setting.Bad("--sse-c-key", path, "a file with the 32 bytes of a key, or with their base64")
	}
	return key, nil
}

// ofEnvironment is what an endpoint is called that no flag has set.
const ofEnvironment = "the endpoint URL of the AWS environment"

// CheckURL returns what is wrong with the URL of a store, which field names; "" is AWS. What is secret in one would do
// nothing, and be written down.
func CheckURL(field, text string) error {
	want := "an http or https URL, as http://localhost:9000"
	u, err := url.Parse(text)
	switch {
	case text == "":
		return nil
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
	case u.User != nil:
		want += ", without user information: credentials are those of the AWS environment"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		want += ", without a query"
	default:
		return nil
	}
	return setting.Bad(field, redact.String(text), want)
}

// config reads the AWS environment. That there are credentials is found out here, where it can be said what to do.
func (s *Session) config(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return cfg, fmt.Errorf("AWS environment: %s", oneLine(err.Error()))
	}
	if s.EndpointURL != "" {
		cfg.BaseEndpoint = aws.String(s.EndpointURL)
	}
	if err := CheckURL(ofEnvironment, aws.ToString(cfg.BaseEndpoint)); err != nil {
		return cfg, err
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	if s.NoSignRequest {
		return cfg, nil
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return cfg, context.Cause(ctx)
		}
		return cfg, fmt.Errorf("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give --no-sign-request (%s)", oneLine(err.Error()))
	}
	return cfg, nil
}

// Close does nothing.
func (o *Object) Close(bool) error { return nil }

// Stat asks the store.
func (o *Object) Stat(ctx context.Context) (Info, error) {
	object, err := o.store.Stat(ctx, o.bucket, o.key)
	if err != nil {
		return Info{}, err
	}
	sum, _ := checksum.Parse(object.Checksum) // none, or of another kind
	return Info{Size: object.Size, Checksum: sum}, nil
}

// Open requests the object.
func (o *Object) Open(ctx context.Context) (*Input, error) {
	g := o.store.Getter(o.bucket, o.key, objects.GetOptions{VersionID: o.version, Tags: true})
	return open(ctx, g, func() Attributes { return g.Object().Attributes })
}

// Getter returns that of the store.
func (o *Object) Getter() (transfer.Getter, string) {
	if o.store == nil {
		return nil, ""
	}
	return o.store.Getter(o.bucket, o.key, objects.GetOptions{VersionID: o.version}), fmt.Sprintf("s3://%s/%s?versionId=%s at %q", o.bucket, o.key, o.version, redact.String(o.endpoint))
}

// Create makes ready for an upload.
func (o *Object) Create(_ context.Context, c *Copy) (Target, error) { return &put{copy: c, to: o}, nil }

// CopyFrom has the store copy.
func (o *Object) CopyFrom(ctx context.Context, from Endpoint) (Stored, error) {
	source, ok := from.(*Object)
	if !ok {
		return Stored{}, errors.ErrUnsupported
	}
	got, err := o.store.Copy(ctx, objects.Address{Bucket: source.bucket, Key: source.key, VersionID: source.version}, objects.Address{Bucket: o.bucket, Key: o.key})
	if status, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && slices.Contains([]int{http.StatusNotImplemented, http.StatusMethodNotAllowed, http.StatusMovedPermanently, http.StatusBadRequest}, status.HTTPStatusCode()) {
		return Stored{}, errors.ErrUnsupported // it does not copy, or not from there; if all is in vain, reading will tell
	}
	return Stored{got.Size, got.Checksum, got.Verified}, err
}

// List yields the objects whose keys begin with the own one and a slash.
func (o *Object) List(ctx context.Context) iter.Seq2[Item, error] {
	prefix := directory(o.key)
	return func(yield func(Item, error) bool) {
		for object, err := range o.store.List(ctx, o.bucket, prefix) {
			i := Item{Rel: strings.TrimPrefix(object.Key, prefix), Size: object.Size}
			i.Dir = i.Size == 0 && (i.Rel == "" || strings.HasSuffix(i.Rel, "/")) // as some programs make them
			i.Sum, _ = checksum.Parse("md5:" + strings.Trim(object.ETag, `"`))    // it may be something else
			if !yield(i, err) || err != nil {
				return
			}
		}
	}
}

// directory returns the prefix of the keys that are below key.
func directory(key string) string {
	if key == "" || strings.HasSuffix(key, "/") {
		return key
	}
	return key + "/"
}

// Why a file can be no object.
var (
	errUTF8 = errors.New("its name is not UTF-8, as that of an object has to be")
	errLong = errors.New("its key would be longer than the 1024 bytes that a store takes")
)

// Join returns the object of that name below this one.
func (o *Object) Join(rel string) (Endpoint, error) {
	below := *o
	below.key = directory(o.key) + rel
	switch {
	case !utf8.ValidString(below.key):
		below.key = strings.ToValidUTF8(below.key, "\uFFFD")
		return &below, errUTF8
	case len(below.key) > 1024:
		return &below, errLong
	}
	return &below, nil
}

// Clean aborts the uploads of keys that begin with the own one which were begun more than age ago and not completed, and
// drops what copies of this user know of them.
func (o *Object) Clean(ctx context.Context, s *Session, age time.Duration) (n int, err error) {
	if err := o.connect(ctx, s, Destination, "s3_upload", "clean_s3"); err != nil {
		return 0, err
	}
	n, err = o.store.Clean(ctx, o.bucket, o.key, age)
	if err == nil {
		err = o.forget(ctx, age)
	}
	if err != nil {
		err = Explain("clean", o.Where(), err)
	}
	return n, err
}

func (o *Object) forget(ctx context.Context, age time.Duration) (failed error) {
	dir, err := uploads.Dir()
	if err != nil {
		return nil // there is no directory to have them
	}
	uploads.Each(dir, func(u *uploads.Upload) {
		s, err := objects.ReadState(u.State())
		if err == nil && failed == nil && s.Endpoint == o.endpoint && s.Bucket == o.bucket && strings.HasPrefix(s.Key, o.key) && time.Since(u.Begun()) >= age {
			failed = o.store.Abandon(ctx, u.State())
		}
	})
	return failed
}

// A put is an object in the making.
type put struct {
	copy *Copy
	to   *Object
	left string
	got  Stored
}

func (p *put) File() *transfer.File    { return nil }
func (p *put) Sequential() bool        { return false }
func (p *put) Commit() (Stored, error) { return p.got, nil }
func (p *put) Close() string           { return p.left }

// Put stores all bytes. What an earlier run has sent of a file is not sent again.
func (p *put) Put(ctx context.Context, in *Input) (Stored, error) {
	o := objects.PutOptions{Attributes: in.Attributes}
	if in.File == nil {
		return p.send(ctx, in, watch(ctx, in, p.copy.Want, p.copy.progress), o)
	}
	if err := p.compare(ctx, in); err != nil {
		return Stored{}, err
	}
	o.Progress = p.copy.progress
	done, err := p.recall(ctx, in, &o)
	if err != nil {
		return Stored{}, err
	}
	stored, err := p.send(ctx, in, io.NewSectionReader(in.File, 0, in.Size), o)
	err = p.steady(in, err)
	done(err)
	return stored, err
}

func (p *put) send(ctx context.Context, in *Input, body io.Reader, o objects.PutOptions) (Stored, error) {
	object, err := p.to.store.Put(ctx, p.to.bucket, p.to.key, body, o)
	if err == nil && in.Size >= 0 && object.Size != in.Size {
		err = fmt.Errorf("%w: %d bytes of %d arrived", ErrSize, object.Size, in.Size)
	}
	p.got = Stored{object.Size, object.Checksum, object.Verified}
	return p.got, err
}

// compare reads a file that can be read again, and returns an error if it is not what is wanted. Other inputs are compared
// as they come.
func (p *put) compare(ctx context.Context, in *Input) error {
	if p.copy.Want.IsZero() {
		return nil
	}
	if _, err := io.CopyBuffer(io.Discard, watch(ctx, in, p.copy.Want, p.copy.progress), make([]byte, chunk)); err != nil {
		return err
	}
	_, err := in.File.Seek(0, io.SeekStart)
	return err
}

// errMoving is the error of a file that can't be sent because it does not stay the same.
var errMoving = errors.New("it has changed while it was sent")

// steady looks whether the file has changed while it was sent, which explains an error that has no other reason, and is
// told if there was none.
func (p *put) steady(in *Input, err error) error {
	now, unseen := in.File.Stat()
	switch {
	case unseen != nil || now.Size() == in.Size && now.ModTime().Equal(in.Modified):
		return err
	case err == nil:
		p.copy.note("changed", p.copy.From.String()+" has changed while it was sent: what is there may hold some of both")
		return nil
	case exit.Code(err) != exit.Failed:
		return err
	}
	return &ReadError{errMoving}
}

// resumable is the size of a file, in bytes, above which it is sent in parts, so that another run may go on with it.
const resumable = 8 << 20

// recall looks for what an earlier run has sent of a file, and has o go on with it, or drops it. The function must be
// called with how the put has ended.
func (p *put) recall(ctx context.Context, in *Input, o *objects.PutOptions) (done func(error), err error) {
	nothing := func(error) {}
	c := p.copy
	u := p.to.upload(c.From, in, c.NoResume || in.Size <= resumable)
	if u == nil {
		return nothing, nil
	}
	anew := c.NoResume || in.Size <= resumable
	if u.Changed() {
		c.renewed(c.From.String() + " has changed since the earlier run: it is sent anew")
	}
	if anew || u.Changed() {
		if err := p.to.abandon(ctx, u); err != nil {
			u.Close()
			return nil, fmt.Errorf("what an earlier run has sent: %w", err)
		}
	}
	if anew || u.Begin() != nil {
		u.Close()
		return nothing, nil //nolint:nilerr // what can't be written down can't be gone on with
	}
	o.State, o.Resumed = u.State(), p.resumed
	return func(err error) {
		p.leave(ctx, u, err)
		u.Close()
	}, nil
}

// upload claims what is known of the upload of a file, and makes it unless it has to be there; nil: another process has it,
// or nothing can be kept here.
func (o *Object) upload(from Endpoint, in *Input, there bool) *uploads.Upload {
	dir, err := uploads.Dir()
	path, unknown := filepath.Abs(from.String())
	if errors.Join(err, unknown) != nil {
		return nil
	}
	if !there {
		uploads.Prune(dir)
	}
	u, err := uploads.Open(dir, uploads.Address{Endpoint: o.endpoint, Bucket: o.bucket, Key: o.key},
		uploads.Source{Path: path, Size: in.Size, Modified: in.Modified}, there)
	if err != nil {
		return nil
	}
	return u
}

// abandon drops an upload that nothing is to go on with. One that the store will not drop is left to "perdure s3 clean".
func (o *Object) abandon(ctx context.Context, u *uploads.Upload) error {
	err := o.store.Abandon(ctx, u.State())
	if err != nil && exit.Code(err) != exit.Failed {
		return err
	}
	return u.Forget()
}

// Settle drops what an earlier run has left of an upload from a file that is there by now.
func (o *Object) Settle(ctx context.Context, from Endpoint) {
	if u := o.upload(from, &Input{}, true); u != nil {
		_ = o.abandon(ctx, u) // the next run tries again
		u.Close()
	}
}

// resumed tells what is there.
func (p *put) resumed(r objects.Resumption) {
	c := p.copy
	if r.Bytes == 0 {
		c.renewed("The store does not have what the earlier run has sent any more: " + c.From.String() + " is sent anew")
		return
	}
	c.goingOn(p.to, r.Bytes, r.Size)
	c.progress(r.Bytes, r.Size)
}

// leave leaves what has been sent to another run, unless that would fail as well.
func (p *put) leave(ctx context.Context, u *uploads.Upload, err error) {
	s, unread := objects.ReadState(u.State())
	switch {
	case err == nil:
		return
	case unread != nil:
		_ = u.Forget()
		return
	case s.Upload == "":
		return
	}
	if s.Bytes == 0 || ctx.Err() == nil && exit.Code(err) == exit.Failed {
		if p.to.store.Abandon(ctx, u.State()) == nil || s.Bytes == 0 {
			return
		}
	}
	p.left = fmt.Sprintf("%d of %d bytes are kept in the store: the same command goes on with them", s.Bytes, s.Size)
}
