package objects_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/internal/getters"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
	"github.com/seed-0f2c7998/perdure/internal/transfer"
	"github.com/seed-0f2c7998/perdure/retry"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// getterOf is the function that the command uses.
var getterOf = getters.NewS3.(func(store *objects.Store, bucket, key string, o objects.GetOptions) getters.S3[objects.Object])

// into fetches the object of a Getter to the file k in dir.
func into(ctx context.Context, dir string, g getters.S3[objects.Object], o transfer.Options) (transfer.Result, error) {
	o.Source, o.Parallel = "s3://"+bucket+"/k", g.Parallel()
	f, err := transfer.Create(filepath.Join(dir, "k"), o)
	if err != nil {
		return transfer.Result{}, err
	}
	defer f.Close()
	if err := f.Fetch(ctx, g); err != nil {
		return transfer.Result{}, err
	}
	return f.Commit()
}

// An object is fetched through faults, in ranges with up to the allowed number of requests at a time.
func TestGetterThroughFaults(t *testing.T) {
	seed := testseed.Of(t, 77)
	for _, parallel := range []int{1, 4} {
		server := start(t, s3test.Options{Faults: s3test.Faults{
			Seed: seed, SlowDown: 0.1, InternalError: 0.1, Reset: 0.1, CutBody: 0.2, ResetBody: 0.1, Stall: 0.05, StallTime: time.Hour,
		}})
		store := open(t, server, objects.Options{Parallel: parallel, Stall: time.Second})
		body, dir := content(1, 26*mib+5), t.TempDir()
		if err := server.Store(bucket, "k", body); err != nil {
			t.Fatal(err)
		}
		g := getterOf(store, bucket, "k", objects.GetOptions{})
		r, err := into(t.Context(), dir, g, transfer.Options{Piece: mib})
		if err != nil || r.Bytes != int64(len(body)) || r.Verified == "size" {
			t.Fatalf("parallel %d: %+v, %v; want all bytes, verified by a checksum", parallel, r, err)
		}
		fetched(t, dir+"/k", body)
		if o := g.Object(); o.Size != int64(len(body)) || o.ETag == "" || o.Key != "k" {
			t.Errorf("parallel %d: the object is %+v", parallel, o)
		}
	}
}

// A body that breaks while the object is replaced does not resume with the new object.
func TestGetterNeverMixesVersions(t *testing.T) {
	older, newer := content(1, 3*mib), content(2, 3*mib)
	for name, r := range map[string]transfer.Range{
		"all": {From: 0, To: -1}, "a range": {From: mib, To: 2 * mib}, "the end": {From: mib, To: -1},
	} {
		for _, after := range []int64{0, mib / 2} {
			server := start(t, s3test.Options{})
			store := open(t, server, objects.Options{})
			if err := server.Store(bucket, "k", older); err != nil {
				t.Fatal(err)
			}
			g := getterOf(store, bucket, "k", objects.GetOptions{})
			res, err := g.Get(t.Context(), transfer.Range{From: 0, To: -1}, nil)
			if err != nil {
				t.Fatal(err)
			}
			of := &res.Version
			_ = res.Body.Close()
			if name == "all" {
				of = nil
			}
			server.Reset()
			server.SetScript(s3test.Rules(s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.CutBody(after)}))
			if res, err = g.Get(t.Context(), r, of); err != nil {
				t.Fatal(err)
			}
			if err := server.Store(bucket, "k", newer); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if !errors.Is(err, transfer.ErrChanged) || !bytes.HasPrefix(older[r.From:], got) {
				t.Errorf("%s, broken after %d bytes: %d bytes, %v; want those of the old object, and %v", name, after, len(got), err, transfer.ErrChanged)
			}
			if _, err = g.Get(t.Context(), transfer.Range{From: 5, To: 10}, of); of != nil && !errors.Is(err, transfer.ErrChanged) {
				t.Errorf("%s: a range of what was replaced: %v, want %v", name, err, transfer.ErrChanged)
			}
		}
	}
}

// A response that does not match the request is an error.
func TestGetterTakesOnlyWhatWasRequested(t *testing.T) {
	of := &transfer.Version{ETag: `"1"`, Size: 1000}
	for name, test := range map[string]struct {
		of       *transfer.Version
		response map[string]string
		status   int
		changed  bool
	}{
		"a page of HTML":     {nil, map[string]string{"Content-Type": "text/html"}, 200, false},
		"a range for all":    {nil, map[string]string{"Etag": `"1"`, "Content-Range": "bytes 0-9/1000"}, 206, false},
		"another range":      {of, map[string]string{"Etag": `"1"`, "Content-Range": "bytes 101-200/1000"}, 206, true},
		"a shorter range":    {of, map[string]string{"Etag": `"1"`, "Content-Range": "bytes 100-150/1000"}, 206, true},
		"of another size":    {of, map[string]string{"Etag": `"1"`, "Content-Range": "bytes 100-199/1001"}, 206, true},
		"of another object":  {of, map[string]string{"Etag": `"2"`, "Content-Range": "bytes 100-199/1000"}, 206, true},
		"no ETag of a range": {of, map[string]string{"X-Amz-Request-Id": "1", "Content-Range": "bytes 100-199/1000"}, 206, true},
		"no ETag":            {nil, map[string]string{"X-Amz-Request-Id": "1"}, 200, false},
		"no range at all":    {of, map[string]string{"Etag": `"1"`}, 206, true},
		"not satisfiable":    {of, nil, 416, true},
		"does not match":     {of, nil, 412, true},
	} {
		store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range test.response {
				w.Header().Set(name, value)
			}
			w.WriteHeader(test.status)
			_, _ = w.Write(make([]byte, 100))
		})
		r := transfer.Range{From: 0, To: -1}
		if test.of != nil {
			r = transfer.Range{From: 100, To: 200}
		}
		_, err := getterOf(store, bucket, "k", objects.GetOptions{}).Get(t.Context(), r, test.of)
		if err == nil || errors.Is(err, transfer.ErrChanged) != test.changed {
			t.Errorf("%s: %v; want an error, and %v: %v", name, err, transfer.ErrChanged, test.changed)
		}
		if _, ok := errors.AsType[*objects.Error](err); !ok {
			t.Errorf("%s: %v, want an *objects.Error", name, err)
		}
	}
}

// A store without support for ranges sends the whole object, and the Getter reports that.
func TestGetterOfAStoreWithoutRanges(t *testing.T) {
	body := content(1, 3*mib)
	store := handMade(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
	g := getterOf(store, bucket, "k", objects.GetOptions{})
	res, err := g.Get(t.Context(), transfer.Range{From: mib, To: 2 * mib}, &transfer.Version{ETag: `"1"`, Size: int64(len(body))})
	if err != nil || res.From != 0 {
		t.Fatalf("%+v, %v; want all of it, from 0", res, err)
	}
	got, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("%d bytes, %v; want all", len(got), err)
	}
}

// While a request waits for its next attempt, exactly one other takes its slot.
func TestGetterLetsAnotherGo(t *testing.T) {
	server := start(t, script(s3test.Rule{Operation: "GetObject", Nth: []int{1}, Fault: s3test.CutBody(0)}))
	store := open(t, server, objects.Options{Policy: unhurried(), Parallel: 1})
	body, dir := content(1, 15*mib), t.TempDir()
	if err := server.Store(bucket, "k", body); err != nil {
		t.Fatal(err)
	}
	if _, err := into(t.Context(), dir, getterOf(store, bucket, "k", objects.GetOptions{}), transfer.Options{Piece: 5 * mib}); err != nil {
		t.Fatal(err)
	}
	fetched(t, dir+"/k", body)
	got := asked(server, "GetObject", func(r s3test.Request) string { return r.Header.Get("Range") })
	if len(got) < 2 || got[0] != "" || got[1] != "bytes=10485760-15728639" {
		t.Errorf("%q was requested, want the last piece after the first response", got)
	}
}

// A later process requests only what is missing, and verifies the checksum of the whole object.
func TestGetterResumes(t *testing.T) {
	server := start(t, s3test.Options{})
	p := quick()
	p.MaxAttempts = 1
	store := open(t, server, objects.Options{Parallel: 1, Policy: p})
	body, dir := content(1, 20*mib), t.TempDir()
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(body), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	server.SetScript(s3test.Rules(
		s3test.Rule{Method: "GET", Nth: []int{1}, Fault: s3test.CutBody(7 * mib)},
		s3test.Rule{Method: "GET", Fault: s3test.InternalError()},
	))
	if _, err := into(t.Context(), dir, getterOf(store, bucket, "k", objects.GetOptions{}), transfer.Options{Piece: mib}); !errors.Is(err, retry.ErrExhausted) {
		t.Fatalf("cut, then 500 for ever: %v, want %v", err, retry.ErrExhausted)
	}
	server.Reset()
	server.SetScript(nil)
	g := getterOf(store, bucket, "k", objects.GetOptions{})
	r, err := into(t.Context(), dir, g, transfer.Options{Piece: mib})
	if err != nil || r.Verified != "crc32" || r.Resumed < 6*mib || g.Object().ETag == "" || g.Object().Size != 20*mib {
		t.Errorf("%+v of %+v, %v; want at least 6 MiB resumed, and the checksum of all", r, g.Object(), err)
	}
	fetched(t, dir+"/k", body)
	for _, span := range asked(server, "GetObject", func(r s3test.Request) string { return r.Header.Get("Range") }) {
		if !strings.HasPrefix(span, "bytes=") || strings.HasPrefix(span, "bytes=0-") {
			t.Errorf("%q was requested, which was there", span)
		}
	}
}

// An openCounter counts the open responses of its client. It delays reads until the given number of responses have
// been open.
type openCounter struct {
	open, most atomic.Int64
	want       int64
	reached    chan struct{} // closed when want were
	once       sync.Once
}

func (c *openCounter) RoundTrip(r *http.Request) (*http.Response, error) {
	n := c.open.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	if n >= c.want {
		c.once.Do(func() { close(c.reached) })
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		c.open.Add(-1)
		return nil, err
	}
	res.Body = &countedBody{ReadCloser: res.Body, counter: c, ctx: r.Context(), closed: sync.OnceFunc(func() { c.open.Add(-1) })}
	return res, nil
}

type countedBody struct {
	io.ReadCloser

	counter *openCounter
	ctx     context.Context
	closed  func()
}

func (b *countedBody) Read(p []byte) (int, error) {
	select {
	case <-b.counter.reached:
		return b.ReadCloser.Read(p)
	case <-b.ctx.Done():
		return 0, b.ctx.Err()
	}
}

func (b *countedBody) Close() error {
	defer b.closed()
	return b.ReadCloser.Close()
}

// The number of open responses stays within the limit, though the engine makes twice as many requests.
func TestGetterKeepsToParallel(t *testing.T) {
	body, dir := content(1, 26*mib), t.TempDir()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"1"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}))
	t.Cleanup(server.Close)
	counter := openCounter{want: 4, reached: make(chan struct{})}
	store, err := objects.New(aws.Config{
		Region: region, BaseEndpoint: &server.URL, HTTPClient: &http.Client{Transport: &counter},
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}, objects.Options{Policy: quick(), PartSize: 5 * mib})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := into(ctx, dir, getterOf(store, bucket, "k", objects.GetOptions{}), transfer.Options{Piece: mib}); err != nil {
		t.Fatalf("%v, with %d responses open at a time, want 4", err, counter.most.Load())
	}
	fetched(t, dir+"/k", body)
	if got := counter.most.Load(); got != 4 {
		t.Errorf("%d responses were open at a time, want 4", got)
	}
}
