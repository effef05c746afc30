package endpoint

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/awsenv"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/uploads"
	"github.com/seed-0f2c7998/perdure/internal/checksum"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
)

//nolint:errcheck,forcetypeassert,gochecknoglobals // as package objects sets it, or the program does not start
var newS3 = getters.NewS3.(func(store *objects.Store, bucket, key string, o objects.GetOptions) getters.S3[objects.Object])

// An Object is an object of a store, or the prefix of several objects.
type Object struct {
	bucket, key string
	begin       string // List yields only items whose Rel begins so

	store    *objects.Store // nil before Connect
	session  *Session
	endpoint string // URL of the store; "" is AWS
	profile  string // of the credentials; "" is the environment's
	version  string // of the object; "" means the current one

	read func() objects.Object // of the last Getter; nil before
}

func parseObject(field, text string) (Endpoint, error) {
	_, rest, _ := strings.Cut(text, "://")
	bucket, key, _ := strings.Cut(rest, "/")
	if bucket == "" {
		return nil, setting.Bad(field, text, "an address with a bucket, such as s3://bucket/key")
	}
	return &Object{bucket: bucket, key: key}, nil
}

// ParsePrefix parses the address of a bucket, or of a prefix of keys in a bucket.
func ParsePrefix(text string) (*Object, error) {
	const want = "s3://BUCKET or s3://BUCKET/PREFIX"
	if name, _, _ := strings.Cut(text, "://"); !strings.EqualFold(name, "s3") || !strings.Contains(text, "://") {
		return nil, setting.Bad("argument", text, want)
	}
	e, err := parseObject("argument", text)
	if err != nil {
		return nil, err
	}
	return e.(*Object), nil //nolint:errcheck,forcetypeassert // parseObject returns one
}

func (o *Object) String() string { return "s3://" + o.bucket + "/" + o.key }

// Where returns the address, and the URL of the store if that is not AWS.
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

// Named returns the object of that name if the key is empty or ends in a slash, or else nil.
func (o *Object) Named(name string) Endpoint {
	if o.key != "" && !strings.HasSuffix(o.key, "/") {
		return nil
	}
	named := *o
	named.key += name
	return &named
}

// Check returns an error if a source has no key, or the key of a destination is not UTF-8.
func (o *Object) Check(field string, as Role) error {
	switch {
	case as == Source && o.key == "":
		return setting.Bad(field, strings.TrimSuffix(o.String(), "/"), "one object, such as s3://bucket/key")
	case as == Destination && !utf8.ValidString(o.key):
		return setting.Bad(field, o.String(), "a key that is UTF-8")
	}
	return nil
}

// Is reports whether bucket and key are the same.
func (o *Object) Is(other Endpoint) bool {
	p, ok := other.(*Object)
	return ok && o.bucket == p.bucket && o.key == p.key
}

// Connect creates the client of the store.
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
	url, profile := s.EndpointURL, s.Profile
	if as == Destination {
		url, profile = cmp.Or(s.EndpointURLDst, url), cmp.Or(s.ProfileDst, profile)
	}
	cfg, err := awsenv.Config(ctx, url, profile, s.NoSignRequest)
	if err != nil {
		return err
	}
	breaker, registry := s.guards(as)
	o.session, s.stored, s.versioned = s, true, s.versioned || as == Source
	o.store, err = objects.New(cfg, objects.Options{Policy: p, Breakers: breaker, Registry: registry, Parallel: s.Parallel, NoSignRequest: s.NoSignRequest, RequestPayer: s.RequestPayer, MinRate: s.MinRate}, func(so *s3.Options) {
		so.HTTPClient = counted{so.HTTPClient.Do, s}
		s.Waiter.Apply(so, registry.All)
		if url != "" {
			so.BaseEndpoint = &url // the environment's URL for S3 would override that of cfg
		}
		o.endpoint, o.profile = aws.ToString(so.BaseEndpoint), profile
	})
	if err = cmp.Or(err, awsenv.CheckURL(awsenv.Source, o.endpoint)); err != nil || s.CustomerKey == "" {
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
	s.keyOnce.Do(func() { s.key, s.keyErr = awsenv.Key(s.CustomerKey) })
	return s.key, s.keyErr
}

// Close does nothing.
func (o *Object) Close(bool) error { return nil }

// Stat requests the metadata of the object. An object in parts may take two more requests.
func (o *Object) Stat(ctx context.Context) (Info, error) {
	object, err := o.store.StatParts(o.doing(ctx, "look_up_in_s3"), objects.Address{Bucket: o.bucket, Key: o.key})
	if err != nil {
		return Info{}, err
	}
	sum, _ := checksum.Parse(object.Checksum) // the zero Sum if it cannot be parsed
	return Info{Size: object.Size, Checksum: sum, ETag: object.ETag, Modified: modTime(object.Metadata)}, nil
}

// Open requests the object.
func (o *Object) Open(ctx context.Context) (*Input, error) {
	g := newS3(o.store, o.bucket, o.key, objects.GetOptions{VersionID: o.version, Tags: true})
	in, err := open(ctx, g, func() Attributes { return g.Object().Attributes })
	return o.session.paceInput(ctx, in, err)
}

// Getter returns a Getter of the object.
func (o *Object) Getter() (transfer.Getter, string) {
	if o.store == nil {
		return nil, ""
	}
	g := newS3(o.store, o.bucket, o.key, objects.GetOptions{VersionID: o.version})
	o.read = g.Object
	return g, g.Source()
}

// Received returns the ETag and the modification time of the object that the last Getter has requested.
func (o *Object) Received() (etag string, modified time.Time) {
	if o.read == nil {
		return "", time.Time{}
	}
	object := o.read()
	return object.ETag, modTime(object.Metadata)
}

// Create returns a target that uploads.
func (o *Object) Create(_ context.Context, c *Copy) (Target, error) { return &put{copy: c, to: o}, nil }

// CopyFrom has the store copy an object.
func (o *Object) CopyFrom(ctx context.Context, from Endpoint) (Stored, error) {
	source, ok := from.(*Object)
	if !ok || source.endpoint != o.endpoint || source.profile != o.profile {
		return Stored{}, errors.ErrUnsupported // read and write instead
	}
	got, err := o.store.CopyWith(o.doing(ctx, "copy_in_s3"), objects.Address{Bucket: source.bucket, Key: source.key, VersionID: source.version}, objects.Address{Bucket: o.bucket, Key: o.key},
		objects.CopyOptions{Attributes: o.session.Settings.Attributes, ACL: types.ObjectCannedACL(o.session.Settings.ACL)})
	if status, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && slices.Contains([]int{http.StatusNotImplemented, http.StatusMethodNotAllowed, http.StatusMovedPermanently, http.StatusBadRequest}, status.HTTPStatusCode()) {
		return Stored{}, errors.ErrUnsupported // the store cannot copy from there: read and write instead
	}
	return Stored{got.Size, got.Checksum, string(got.Verified), got.ETag}, err
}

// List yields the objects whose keys begin with the key of o and a slash.
func (o *Object) List(ctx context.Context) iter.Seq2[Item, error] {
	prefix := directory(o.key)
	return func(yield func(Item, error) bool) {
		for object, err := range o.store.List(o.doing(ctx, "list_s3"), o.bucket, prefix+o.begin) {
			i := Item{Rel: strings.TrimPrefix(object.Key, prefix), Size: object.Size, ETag: object.ETag}
			i.Dir = i.Size == 0 && (i.Rel == "" || strings.HasSuffix(i.Rel, "/")) // the marker of a directory
			i.Sum = checksum.OfETag(object.ETag)
			if object.Key != "" {
				i.Err, err = err, nil
			}
			if !yield(i, err) || err != nil {
				return
			}
		}
	}
}

// Described returns an item with the size and the ETag of info.
func (i Item) Described(info Info) Item {
	i.Size, i.ETag, i.Sum = info.Size, info.ETag, checksum.OfETag(info.ETag)
	return i
}

// Remove deletes the objects of these names below o.
func (o *Object) Remove(ctx context.Context, rels []string) iter.Seq2[string, error] {
	prefix := directory(o.key)
	return func(yield func(string, error) bool) {
		for key, err := range o.store.DeleteAll(o.doing(ctx, "delete_from_s3"), o.bucket, func(yield func(string) bool) {
			for _, rel := range rels {
				if !yield(prefix + rel) {
					return
				}
			}
		}) {
			if !yield(strings.TrimPrefix(key, prefix), err) {
				return
			}
		}
	}
}

// directory returns the prefix of the keys below key.
func directory(key string) string {
	if key == "" || strings.HasSuffix(key, "/") {
		return key
	}
	return key + "/"
}

// Reasons why a file cannot be stored as an object.
var (
	errUTF8 = errors.New("file name is not UTF-8, as the key of an object must be")
	errLong = errors.New("key would be longer than 1024 bytes")
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

// Clean aborts the incomplete uploads of keys that begin with the key of o and are older than age. It removes their records
// in the state directory, too.
func (o *Object) Clean(ctx context.Context, s *Session, age time.Duration) (n int, err error) {
	if err := o.connect(ctx, s, Destination, "s3_upload", "clean_s3"); err != nil {
		return 0, err
	}
	n, err = o.store.AbortUploads(ctx, o.bucket, o.key, age)
	if err == nil {
		err = o.forget(ctx, age)
	}
	if err != nil {
		err = Explain("clean", o.Where(), err)
	}
	return n, err
}

// forget aborts the recorded uploads that Clean means.
func (o *Object) forget(ctx context.Context, age time.Duration) (failed error) {
	dir, err := uploads.Dir()
	if err != nil {
		return nil // no directory, no records
	}
	uploads.Each(dir, func(u *uploads.Upload) {
		s, err := objects.ReadState(u.State())
		if err == nil && failed == nil && s.Endpoint == o.endpoint && s.Bucket == o.bucket && strings.HasPrefix(s.Key, o.key) && time.Since(u.Begun()) >= age {
			failed = o.store.AbortUpload(ctx, u.State())
		}
	})
	return failed
}
