package objects_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/seed-0f2c7998/perdure/awsretry/objects"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// An amazon is a server for hosts of amazonaws.com, whose only bucket is in eu-west-1. refuse responds to requests in
// other regions.
type amazon struct {
	refuse func(w http.ResponseWriter, r *http.Request)

	mu    sync.Mutex
	hosts []string // of each request, and the region that it is signed for
}

var signedFor = regexp.MustCompile(`Credential=[^/]+/[0-9]+/([^/]+)/s3/`)

func (a *amazon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	where := ""
	if found := signedFor.FindStringSubmatch(r.Header.Get("Authorization")); found != nil {
		where = found[1]
	}
	a.mu.Lock()
	a.hosts = append(a.hosts, r.Host+" "+where)
	a.mu.Unlock()
	switch {
	case where != "eu-west-1" && !strings.Contains(r.Host, "eu-west-1"):
		a.refuse(w, r)
	case r.Method == http.MethodGet && r.URL.Query().Has("list-type"):
		fmt.Fprint(w, "<ListBucketResult><Contents><Key>k</Key></Contents></ListBucketResult>")
	default:
		w.Header().Set("ETag", `"9dd4e461268c8034f5c8564e155c67a6"`) // of "x"
		switch r.Method {
		case http.MethodHead:
			w.Header().Set("Content-Length", "1")
		case http.MethodGet:
			fmt.Fprint(w, "x")
		}
	}
}

// start returns a Store whose client connects every host name to the server.
func (a *amazon) start(t *testing.T, o objects.Options, endpoint bool) *objects.Store {
	t.Helper()
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	cfg := aws.Config{
		Region: "us-east-1", HTTPClient: plainClient{transport},
		Credentials: credentials.NewStaticCredentialsProvider("access", "secret", ""),
	}
	if endpoint {
		cfg.BaseEndpoint = aws.String("http://s3.example.org")
	}
	o.Policy = quick()
	store, err := objects.New(cfg, o, func(o *s3.Options) { o.EndpointOptions.DisableHTTPS = true })
	if err != nil {
		t.Fatal(err)
	}
	return store
}

type plainClient struct{ *http.Transport }

func (c plainClient) Do(r *http.Request) (*http.Response, error) { return c.RoundTrip(r) }

// respond returns a handler that responds with that status, and the region in the header, in the body, or in neither.
func respond(status int, code, header, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		if header != "" {
			w.Header().Set("X-Amz-Bucket-Region", header)
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			fmt.Fprintf(w, "<Error><Code>%s</Code><Message>elsewhere</Message>%s</Error>", code, body)
		}
	}
}

func TestBucketElsewhere(t *testing.T) {
	const region = "<Region>eu-west-1</Region>"
	for name, refuse := range map[string]func(http.ResponseWriter, *http.Request){
		"301":          respond(301, "PermanentRedirect", "eu-west-1", ""),
		"307":          respond(307, "TemporaryRedirect", "eu-west-1", ""),
		"400":          respond(400, "AuthorizationHeaderMalformed", "eu-west-1", ""),
		"400, by body": respond(400, "AuthorizationHeaderMalformed", "", region),
		"301, by body": respond(301, "PermanentRedirect", "", region),
	} {
		for _, endpoint := range []bool{false, true} {
			a := &amazon{refuse: refuse}
			store := a.start(t, objects.Options{}, endpoint)
			want := []string{"bikes.s3.us-east-1.amazonaws.com us-east-1", "bikes.s3.eu-west-1.amazonaws.com eu-west-1"}
			if endpoint {
				want = []string{"s3.example.org us-east-1", "s3.example.org eu-west-1"}
			}
			want = append(want, want[1], want[1]) // there from then on
			_, err := store.Put(t.Context(), bucket, "k", bytes.NewReader([]byte("x")), objects.PutOptions{})
			keys, listed := collect(store.List(t.Context(), bucket, ""))
			if err = errors.Join(err, listed); err != nil || !slices.Equal(keys, []string{"k"}) {
				t.Errorf("%s, own endpoint %t: %v, %q", name, endpoint, err, keys)
			}
			if len(a.hosts) < 3 || !slices.Equal(a.hosts[:3], want[:3]) || slices.Contains(a.hosts[2:], want[0]) {
				t.Errorf("%s, own endpoint %t: requests to %q, want %q", name, endpoint, a.hosts, want)
			}
		}
	}
}

// The response to a HEAD has only a status and headers.
func TestBucketElsewhereByHead(t *testing.T) {
	for _, status := range []int{301, 400} {
		a := &amazon{refuse: respond(status, "", "eu-west-1", "")}
		if _, err := a.start(t, objects.Options{}, false).Stat(t.Context(), bucket, "k"); err != nil || len(a.hosts) != 2 {
			t.Errorf("%d: %v after requests to %q, want success after two", status, err, a.hosts)
		}
	}
}

// If the bucket cannot be reached, the error names its region, after two requests.
func TestBucketElsewhereOutOfReach(t *testing.T) {
	for name, tt := range map[string]struct {
		region string
		want   string
		hosts  int
	}{
		"another endpoint": {"ap-south-1", "bucket bikes is in region ap-south-1: ", 2},
		"no region":        {"", "", 1},
		"no host's name":   {"evil.example.org/", "", 1},
		"the same region":  {"us-east-1", "", 1},
	} {
		a := &amazon{refuse: respond(301, "PermanentRedirect", "", "<Region>"+tt.region+"</Region>")}
		_, err := a.start(t, objects.Options{}, true).Put(t.Context(), bucket, "k", strings.NewReader("x"), objects.PutOptions{})
		e, ok := errors.AsType[*objects.RegionError](err)
		if err == nil || ok != (tt.want != "") || ok && (e.Region != tt.region || !strings.Contains(err.Error(), tt.want)) || len(a.hosts) != tt.hosts {
			t.Errorf("%s: %v after requests to %q", name, err, a.hosts)
		}
	}
}

func TestRequestsWithoutASignature(t *testing.T) {
	a := &amazon{refuse: respond(301, "PermanentRedirect", "eu-west-1", "")}
	store := a.start(t, objects.Options{NoSignRequest: true}, false)
	_, err := store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{})
	if want := []string{"bikes.s3.us-east-1.amazonaws.com ", "bikes.s3.eu-west-1.amazonaws.com "}; err != nil || !slices.Equal(a.hosts, want) {
		t.Errorf("%v after %q, want success after %q", err, a.hosts, want)
	}
}

func TestRequestPayer(t *testing.T) {
	server := start(t, s3test.Options{})
	store := open(t, server, objects.Options{RequestPayer: true, PartSize: 5 * mib})
	if _, err := store.Put(t.Context(), bucket, "k", bytes.NewReader(content(1, 6*mib)), objects.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "k"}, objects.Address{Bucket: bucket, Key: "l"}); err != nil {
		t.Fatal(err)
	}
	if _, err := collect(store.List(t.Context(), bucket, "")); err != nil {
		t.Fatal(err)
	}
	for _, r := range server.Requests() {
		if r.Header.Get("X-Amz-Request-Payer") != "requester" {
			t.Errorf("%s without a payer: %v", r.Operation, r.Header)
		}
	}
}

func TestVersions(t *testing.T) {
	var versions []string
	broken := false
	store := handMade(t, func(w http.ResponseWriter, r *http.Request) {
		place, _ := url.QueryUnescape(r.Header.Get("X-Amz-Copy-Source"))
		versions = append(versions, strings.TrimSpace(fmt.Sprint(r.Method, " ", r.URL.Query().Get("versionId"), " ", r.Header.Get("Range"), place)))
		w.Header().Set("ETag", `"v"`)
		switch {
		case r.Method == http.MethodPut:
			fmt.Fprint(w, `<CopyObjectResult><ETag>"v"</ETag></CopyObjectResult>`)
		case r.Header.Get("Range") != "":
			w.Header().Set("Content-Range", "bytes 2-3/4")
			w.WriteHeader(http.StatusPartialContent)
			fmt.Fprint(w, "cd")
		default:
			w.Header().Set("Content-Length", "4")
			fmt.Fprint(w, "ab")
			if broken = r.Method == http.MethodGet && !broken; !broken {
				fmt.Fprint(w, "cd")
			}
		}
	})
	_, failed := store.StatVersion(t.Context(), objects.Address{Bucket: bucket, Key: "k", VersionID: "1"})
	_, err := store.Stat(t.Context(), bucket, "k")
	failed = errors.Join(failed, err)
	_, err = store.Get(t.Context(), bucket, "k", io.Discard, objects.GetOptions{VersionID: "2"})
	failed = errors.Join(failed, err)
	_, err = store.GetFile(t.Context(), bucket, "k", filepath.Join(t.TempDir(), "k"), objects.GetOptions{VersionID: "3"})
	failed = errors.Join(failed, err)
	_, err = store.Copy(t.Context(), objects.Address{Bucket: bucket, Key: "k", VersionID: "4"}, objects.Address{Bucket: bucket, Key: "l"})
	if failed = errors.Join(failed, err); failed != nil {
		t.Error(failed)
	}
	want := []string{"HEAD 1", "HEAD", "GET 2", "GET 2 bytes=2-3", "GET 3", "HEAD 4", "PUT  bikes/k?versionId=4", "HEAD"}
	if !slices.Equal(versions, want) {
		t.Errorf("%q, want %q", versions, want)
	}
}
