package copying

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/partial"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/patience"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/place"
	"github.com/seed-0f2c7998/perdure/httpretry"
	"github.com/seed-0f2c7998/perdure/internal/redact"
	"github.com/seed-0f2c7998/perdure/internal/setting"
	"github.com/seed-0f2c7998/perdure/retry"
)

// connect makes the clients of both sides. Nothing is sent but what the
// credentials need.
func (c *copier) connect(ctx context.Context) error {
	var err error
	c.again = retry.Policy{MaxAttempts: 1, Observe: c.restarting}
	switch c.from.Kind {
	case place.Web:
		err = c.connectWeb()
	case place.Object:
		c.download, err = c.connectStore(ctx, "s3_download", "download_from_s3")
	default:
	}
	if err == nil && c.to.Kind == place.Object {
		c.upload, err = c.connectStore(ctx, "s3_upload", "upload_to_s3")
	}
	return err
}

// policy returns the policy of one side. That of the source says as well how
// often a body that broke is fetched again; that is counted by no breaker, for
// the requests are.
func (c *copier) policy(preset, name string) (*retry.Policy, error) {
	s, err := c.Policy.Settings(preset)
	if err != nil {
		return nil, err
	}
	p := &s.Policy
	p.Name = cmp.Or(p.Name, name)
	p.Observe = c.observe
	if preset != "s3_upload" {
		c.again = *p
		c.again.AttemptTimeout = 0 // that is for an answer's head
		c.again.Observe = c.restarting
	}
	return p, nil
}

func (c *copier) connectWeb() error {
	p, err := c.policy("api_call", "fetch")
	if err != nil {
		return err
	}
	base := http.DefaultTransport.(*http.Transport).Clone() //nolint:errcheck,forcetypeassert // it is one
	base.DisableCompression = true                          // the bytes as they are there
	base.ResponseHeaderTimeout = 2 * time.Minute
	base.MaxIdleConnsPerHost = max(c.Parallel, 4)
	c.client = &http.Client{Transport: patience.Transport{RoundTripper: httpretry.NewTransport(counted{base, &c.attempts}, httpretry.Options{
		Policy: p, Breakers: &c.Breaker, Registry: c.Registry, StallTimeout: 30 * time.Second, OnResume: c.resumed,
	}), Patience: c.Patience, Breakers: c.Registry.All}}
	return nil
}

// counted is a RoundTripper that counts.
type counted struct {
	http.RoundTripper

	n *atomic.Int64
}

func (t counted) RoundTrip(req *http.Request) (*http.Response, error) {
	t.n.Add(1)
	return t.RoundTripper.RoundTrip(req)
}

// countedClient is the same for the SDK's.
type countedClient struct {
	s3.HTTPClient

	n *atomic.Int64
}

func (t countedClient) Do(req *http.Request) (*http.Response, error) {
	t.n.Add(1)
	return t.HTTPClient.Do(req)
}

func (c *copier) connectStore(ctx context.Context, preset, name string) (*objects.Store, error) {
	p, err := c.policy(preset, name)
	if err != nil {
		return nil, err
	}
	cfg, err := c.config(ctx)
	if err != nil {
		return nil, err
	}
	store, err := objects.New(cfg, objects.Options{Policy: p, Breakers: &c.Breaker, Registry: c.Registry, Parallel: c.Parallel}, func(o *s3.Options) {
		o.HTTPClient = countedClient{o.HTTPClient, &c.attempts}
		c.Patience.Apply(o, c.Registry.All)
		if c.EndpointURL != "" {
			o.BaseEndpoint = &c.EndpointURL // which the environment's own for S3 would hide
		}
		c.endpoint = aws.ToString(o.BaseEndpoint)
	})
	if err = cmp.Or(err, CheckEndpoint(ofEnvironment, c.endpoint)); err != nil || c.CustomerKey == "" {
		return store, err
	}
	if c.key == nil { // read once for both sides: the file may be a pipe
		if c.key, err = customerKey(c.CustomerKey); err != nil {
			return nil, err
		}
	}
	return store.WithCustomerKey(c.key)
}

// customerKey reads a file with the 32 bytes of a key, or with their base64.
func customerKey(path string) ([]byte, error) {
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

// CheckEndpoint returns what is wrong with the URL of a store, which field names;
// "" is AWS. What is secret in one would do nothing, and be written down.
func CheckEndpoint(field, text string) error {
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

// config reads the AWS environment. That there are credentials is found out
// here, where it can be said what to do.
func (c *copier) config(ctx context.Context) (aws.Config, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return cfg, fmt.Errorf("AWS environment: %s", oneLine(err.Error()))
	}
	if c.EndpointURL != "" {
		cfg.BaseEndpoint = aws.String(c.EndpointURL)
	}
	if err := CheckEndpoint(ofEnvironment, aws.ToString(cfg.BaseEndpoint)); err != nil {
		return cfg, err
	}
	cfg.Region = cmp.Or(cfg.Region, "us-east-1")
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		if ctx.Err() != nil {
			return cfg, context.Cause(ctx)
		}
		return cfg, fmt.Errorf("no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (%s)", oneLine(err.Error()))
	}
	return cfg, nil
}

// A Connection is a store that many objects go to or come from.
type Connection struct {
	*objects.Store

	copier *copier
}

// Connect makes the client of a store by the job's endpoint and policy, which
// begins as that preset; name is what the operation is called in events.
func (j *Job) Connect(ctx context.Context, preset, name string) (*Connection, error) {
	c := j.copier()
	store, err := c.connectStore(ctx, preset, name)
	if err != nil {
		return nil, err
	}
	return &Connection{store, c}, nil
}

// PutFile stores an open file of that path, and goes on with what an earlier copy
// has sent of it, as a copy of that file alone does.
func (c *Connection) PutFile(ctx context.Context, f *os.File, path, bucket, key string, progress func(done, total int64)) (objects.Object, error) {
	info, err := f.Stat()
	if err != nil {
		return objects.Object{}, err
	}
	in := &input{size: info.Size(), seek: f, modified: info.ModTime()}
	o := objects.PutOptions{Attributes: objects.Attributes{ContentType: mime.TypeByExtension(filepath.Ext(path))}, Progress: progress}
	one := c.one(place.FileAt(path), place.ObjectAt(bucket, key))
	done, err := one.recall(ctx, in, &o)
	if err != nil {
		return objects.Object{}, err
	}
	put, err := c.Put(ctx, bucket, key, io.NewSectionReader(f, 0, in.size), o)
	err = one.steady(in, err)
	done(err)
	return put, err
}

// PullFile is PutFile the other way round.
func (c *Connection) PullFile(ctx context.Context, bucket, key, path string, progress func(done, total int64)) (objects.Object, error) {
	one := c.one(place.ObjectAt(bucket, key), place.FileAt(path))
	t, err := one.newDraft(ctx)
	if err != nil {
		return objects.Object{}, err
	}
	p, ok := t.(*pull)
	if !ok { // what is there is no file
		t.close()
		return objects.Object{}, &fs.PathError{Op: "write", Path: path, Err: errors.New("is neither a file nor a directory")}
	}
	got, err := p.get(ctx, progress)
	if err == nil {
		err = p.commit()
	}
	p.close()
	return got, err
}

// Forget drops what copies of this user have left of uploads to keys that begin
// with prefix, if they were begun more than age ago and no process goes on with
// them.
func (c *Connection) Forget(ctx context.Context, bucket, prefix string, age time.Duration) error {
	dir, err := uploads()
	if err != nil {
		return nil //nolint:nilerr // there is no directory to have them
	}
	var failed error
	partial.Uploads(dir, func(u *partial.Upload) {
		s, err := objects.ReadState(u.State())
		if err == nil && failed == nil && s.Endpoint == c.copier.endpoint && s.Bucket == bucket && strings.HasPrefix(s.Key, prefix) && time.Since(u.Begun()) >= age {
			failed = c.Abandon(ctx, u.State())
		}
	})
	return failed
}

// one returns the copier of one of many files.
func (c *Connection) one(from, to place.Place) *copier {
	return &copier{Job: c.copier.Job, from: from, to: to, upload: c.Store, download: c.Store, endpoint: c.copier.endpoint}
}

// Requests returns how many requests were sent, and how many of them were
// retries.
func (c *Connection) Requests() (sent, retries int) {
	return int(c.copier.attempts.Load()), int(c.copier.retries.Load())
}

// Explain returns err with what was done to which object, in one line.
func (c *Connection) Explain(do, bucket, key string, err error) error {
	return c.copier.explain(do, place.ObjectAt(bucket, key), err)
}

// Explain returns err with what was done to which file, in one line.
func Explain(do, path string, err error) error {
	return (&copier{}).explain(do, place.FileAt(path), err)
}
