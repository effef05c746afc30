package s3test_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/seed-0f2c7998/perdure/s3test"
)

// first makes a fault happen to the first request of an operation for each target.
func first(operation string, fault s3test.Fault) func(s3test.Request) s3test.Fault {
	return s3test.Rules(s3test.Rule{Operation: operation, Nth: []int{1}, Fault: fault})
}

// status is the HTTP status in an SDK error; 0 without a response.
func status(err error) int {
	if response, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		return response.HTTPStatusCode()
	}
	return 0
}

// is is errors.Is, but a reset counts in all the forms in which net/http reports it to a client that is still sending.
func is(err, target error) bool {
	reset := errors.Is(target, syscall.ECONNRESET)
	return errors.Is(err, target) || reset && (errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed))
}

func TestFaultsOfPutAsClientSeesThem(t *testing.T) {
	for _, test := range []struct {
		fault  s3test.Fault
		name   string // of the fault
		status int    // in the error and in the record
		code   string
		is     error
		stored bool
	}{
		{fault: s3test.SlowDown(), name: "503 SlowDown", status: 503, code: "SlowDown"},
		{fault: s3test.InternalError(), name: "500 InternalError", status: 500, code: "InternalError"},
		{fault: s3test.Fault{Kind: s3test.Error}, name: "500 InternalError", status: 500, code: "InternalError"},
		{fault: s3test.TooManyRequests(1500 * time.Millisecond), name: "429 TooManyRequests", status: 429, code: "TooManyRequests"},
		{fault: s3test.AccessDenied(), name: "403 AccessDenied", status: 403, code: "AccessDenied"},
		{fault: s3test.Failure(400, "RequestTimeout"), name: "400 RequestTimeout", status: 400, code: "RequestTimeout"},
		{fault: s3test.Reset(), name: "reset", is: syscall.ECONNRESET},
		{fault: s3test.CutRequest(100_000), name: "cut request", is: syscall.ECONNRESET},
		{fault: s3test.Hangup(), name: "hangup", is: io.EOF},
		{fault: s3test.LostResponse(), name: "lost response", is: syscall.ECONNRESET, stored: true},
		{fault: s3test.Fault{Kind: s3test.Error, Status: 503, Code: "SlowDown", Applied: true}, name: "503 SlowDown", status: 503, code: "SlowDown", stored: true},
	} {
		server := start(t, s3test.Options{Script: first("PutObject", test.fault)})
		client := connect(t, server, 1)
		body := pattern(1 << 20)
		_, err := put(t, client, "k", body)
		if err == nil || status(err) != test.status || code(err) != test.code || (test.is != nil && !is(err, test.is)) {
			t.Errorf("%v: client got %v; want status %d, code %q, %v", test.fault, err, test.status, test.code, test.is)
		}
		record := server.Requests()[0]
		if record.Status != test.status || record.Fault != test.fault || record.Fault.String() != test.name {
			t.Errorf("%v: recorded as %v with status %d, want %q with %d", test.fault, record.Fault, record.Status, test.name, test.status)
		}
		if _, stored := server.Object(bucket, "k"); stored != test.stored {
			t.Errorf("%v: stored = %v, want %v", test.fault, stored, test.stored)
		}
		if _, err := put(t, client, "k", body); err != nil {
			t.Errorf("%v: the second PUT, which has no fault: %v", test.fault, err)
		}
	}
}

func TestRetryAfterIsInTheResponse(t *testing.T) {
	server := start(t, s3test.Options{Script: first("PutObject", s3test.TooManyRequests(1500*time.Millisecond))})
	_, err := put(t, connect(t, server, 1), "k", nil)
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	if !ok || response.Response.Header.Get("Retry-After") != "2" {
		t.Errorf("put: %v; want a response with Retry-After: 2", err)
	}
}

func TestFaultsOfGetAsClientSeesThem(t *testing.T) {
	body := pattern(1 << 20)
	for _, test := range []struct {
		fault s3test.Fault
		bytes int // that arrive at most; exactly that many unless the connection is reset
		is    error
	}{
		{s3test.CutBody(0), 0, io.ErrUnexpectedEOF},
		{s3test.CutBody(700_001), 700_001, io.ErrUnexpectedEOF},
		{s3test.Fault{Kind: s3test.Cut, Share: 0.25}, 1 << 18, io.ErrUnexpectedEOF},
		{s3test.ResetBody(500_000), 500_000, syscall.ECONNRESET},
		{s3test.StallBody(300_000, time.Millisecond), 300_000, io.ErrUnexpectedEOF},
	} {
		server := start(t, s3test.Options{Script: first("GetObject", test.fault)})
		client := connect(t, server, 1)
		if _, err := put(t, client, "k", body); err != nil {
			t.Fatal(err)
		}
		got, err := get(t, client, "k")
		short := test.fault.RST && len(got) <= test.bytes
		if !errors.Is(err, test.is) || (len(got) != test.bytes && !short) || !bytes.Equal(got, body[:len(got)]) {
			t.Errorf("%v at %d: %d bytes, %v; want %v", test.fault, test.bytes, len(got), err, test.is)
		}
		if got, err := get(t, client, "k"); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%v: the second GET, which has no fault: %d bytes, %v", test.fault, len(got), err)
		}
	}
}

func TestCutBeyondTheEndCutsNothing(t *testing.T) {
	server := start(t, s3test.Options{Script: first("GetObject", s3test.CutBody(4))})
	client := connect(t, server, 1)
	if _, err := put(t, client, "k", []byte("data")); err != nil {
		t.Fatal(err)
	}
	if got, err := get(t, client, "k"); err != nil || string(got) != "data" {
		t.Errorf("get: %q, %v", got, err)
	}
}

func TestErrorResponseIsNotCut(t *testing.T) {
	server := start(t, s3test.Options{Script: first("GetObject", s3test.CutBody(0))})
	if _, err := get(t, connect(t, server, 5), "missing"); code(err) != "NoSuchKey" || server.Count("", "") != 1 {
		t.Errorf("get of a missing key: %v with %d requests, want NoSuchKey with 1", err, server.Count("", ""))
	}
}

func TestSlowResponseComesLateAndStallEndsWithTheClient(t *testing.T) {
	const delay = 30 * time.Millisecond
	server := start(t, s3test.Options{Script: first("PutObject", s3test.SlowResponse(delay))})
	client := connect(t, server, 1)
	began := time.Now()
	if _, err := put(t, client, "k", pattern(1000)); err != nil || time.Since(began) < delay {
		t.Errorf("slow put: %v after %v, want success after %v", err, time.Since(began), delay)
	}
	server.SetScript(first("GetObject", s3test.StallBody(10, 0)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Body.Close() })
	if _, err := io.ReadFull(out.Body, make([]byte, 10)); err != nil {
		t.Errorf("the bytes before the stall: %v", err)
	}
	cancel()
	if got, err := io.ReadAll(out.Body); len(got) != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("stalled get: %d bytes more, %v; want none and the client's cancellation", len(got), err)
	}
}

func TestCloseEndsAStall(t *testing.T) {
	server := start(t, s3test.Options{Script: first("GetObject", s3test.StallBody(2, 0))})
	client := connect(t, server, 1)
	if _, err := put(t, client, "k", []byte("data")); err != nil {
		t.Fatal(err)
	}
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Body.Close() })
	server.Close()
	if got, err := io.ReadAll(out.Body); err == nil {
		t.Errorf("read %q to the end of a body that stalls", got)
	}
	if got, ok := server.Object(bucket, "k"); !ok || string(got) != "data" {
		t.Errorf("Object after Close = %q, %v", got, ok)
	}
}

func TestErrorIn200FailsCompleteAndCopy(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	done := upload(t, client, "big", pattern(10))
	server.SetScript(first("CompleteMultipartUpload", s3test.ErrorIn200()))
	if _, err := client.CompleteMultipartUpload(t.Context(), done); code(err) != "InternalError" {
		t.Errorf("complete: %v, want InternalError", err)
	}
	if got := server.Requests()[2]; got.Operation != "CompleteMultipartUpload" || got.Status != http.StatusOK {
		t.Errorf("the server recorded %s with status %d, want 200", got.Operation, got.Status)
	}
	if _, err := client.CompleteMultipartUpload(t.Context(), done); err != nil {
		t.Errorf("second complete: %v", err)
	}
	server.SetScript(first("CopyObject", s3test.ErrorIn200()))
	in := &s3.CopyObjectInput{Bucket: aws.String(bucket), Key: aws.String("copy"), CopySource: aws.String(bucket + "/big")}
	if _, err := client.CopyObject(t.Context(), in); code(err) != "InternalError" {
		t.Errorf("copy: %v, want InternalError", err)
	}
	if _, ok := server.Object(bucket, "copy"); ok {
		t.Error("the copy that failed was made")
	}
	if _, err := client.CopyObject(t.Context(), in); err != nil {
		t.Errorf("second copy: %v", err)
	}
}

// A response to a client that is still sending used to be lost as a connection reset in a quarter of the cases.
func TestEarlyResponseToALargeBodyArrives(t *testing.T) {
	server := start(t, s3test.Options{})
	server.SetScript(s3test.Rules(s3test.Rule{Method: "PUT", Fault: s3test.SlowDown()}))
	client := connect(t, server, 1)
	body := pattern(8 << 20)
	for i := range 10 {
		if _, err := put(t, client, "k", body); status(err) != 503 || code(err) != "SlowDown" {
			t.Errorf("put %d: %v, want 503 SlowDown", i, err)
		}
	}
}

func TestWithoutDrainEarlyResponseClosesButNeverHangs(t *testing.T) {
	server := start(t, s3test.Options{Drain: -1})
	server.SetScript(s3test.Rules(s3test.Rule{Method: "PUT", Fault: s3test.SlowDown()}))
	client := connect(t, server, 1)
	for i := range 5 {
		_, err := put(t, client, "k", pattern(8<<20))
		if status(err) != 503 && !is(err, syscall.ECONNRESET) {
			t.Errorf("put %d: %v, want 503 or a lost connection", i, err)
		}
	}
}

func TestScriptedFaultsAreRetriedBySDK(t *testing.T) {
	server := start(t, s3test.Options{})
	server.SetScript(s3test.Rules(
		s3test.Rule{Method: "PUT", Prefix: "/bikes/hour", Nth: []int{1, 2}, Fault: s3test.SlowDown()},
		s3test.Rule{Operation: "DeleteObject", Fault: s3test.AccessDenied()},
	))
	client := connect(t, server, 5)
	if _, err := put(t, client, "hour.csv", pattern(1000)); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, r := range server.Requests() {
		seen = append(seen, fmt.Sprintf("%s %d %d %v, %s", r.Operation, r.N, r.Status, r.Fault, r.Header.Get("Amz-Sdk-Request")))
	}
	want := []string{
		"PutObject 1 503 503 SlowDown, attempt=1; max=5",
		"PutObject 2 503 503 SlowDown, attempt=2; max=5",
		"PutObject 3 200 none, attempt=3; max=5",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("requests:\n%s\nwant\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
	for _, r := range server.Requests() {
		if r.At.IsZero() || r.Conn < 1 || r.Conn > server.Connections() || r.Header.Get("Authorization") != "" {
			t.Errorf("record %d: at %v on connection %d, Authorization %q", r.N, r.At, r.Conn, r.Header.Get("Authorization"))
		}
	}
	if got := server.Count("PUT", "/bikes/hour"); got != 3 || server.Count("GET", "") != 0 || server.Count("", "/other") != 0 {
		t.Errorf("counts: PUT /bikes/hour %d (want 3), GET %d, /other %d (want 0)", got, server.Count("GET", ""), server.Count("", "/other"))
	}
	server.Reset()
	if server.Count("", "") != 0 || server.Connections() != 0 || len(server.Requests()) != 0 {
		t.Error("Reset left records")
	}
	if _, err := put(t, client, "hour.csv", nil); err != nil || server.Count("PUT", "") != 3 {
		t.Errorf("after Reset: %v with %d PUTs, want the numbers to begin at 1 again: 3 PUTs", err, server.Count("PUT", ""))
	}
}

// course makes the same requests with one attempt each and returns the result of each, by target.
func course(t *testing.T, server *s3test.Server, workers int) map[string][]s3test.Fault {
	t.Helper()
	client := connect(t, server, 1, func(c *aws.Config) {
		c.HTTPClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // net/http repeats nothing by itself
	})
	var work sync.WaitGroup
	for worker := range workers {
		work.Go(func() {
			for i := worker; i < 200; i += workers {
				key := fmt.Sprintf("k%d", i%10)
				_, _ = put(t, client, key, pattern(3000)) // its faults are what is looked at
				_, _ = get(t, client, key)
			}
		})
	}
	work.Wait()
	faults := make(map[string][]s3test.Fault)
	records := server.Requests()
	slices.SortStableFunc(records, func(a, b s3test.Request) int { return a.N - b.N })
	for _, r := range records {
		target := r.Method + " " + r.Path
		faults[target] = append(faults[target], r.Fault)
	}
	return faults
}

func TestSeedDecidesTheCourse(t *testing.T) {
	run := func(seed uint64, workers int) map[string][]s3test.Fault {
		weather := s3test.TypicalFaults(seed)
		weather.SlowTime = time.Millisecond
		return course(t, start(t, s3test.Options{Faults: weather}), workers)
	}
	alone, crowd, other := run(7, 1), run(7, 8), run(8, 1)
	different, failed, kinds := 0, 0, make(map[string]bool)
	for target, want := range alone {
		if !slices.Equal(crowd[target], want) {
			t.Errorf("seed 7, %s: one client saw %v, eight saw %v", target, want, crowd[target])
		}
		if !slices.Equal(other[target], want) {
			different++
		}
		inRow := 0
		for n, fault := range want {
			kinds[fault.String()] = true
			if fault.Kind == s3test.None || fault.Kind == s3test.Slow {
				inRow = 0
				continue
			}
			failed++
			if inRow++; inRow > 3 {
				t.Errorf("seed 7, %s: request %d is failure %d in a row, want at most 3", target, n+1, inRow)
			}
		}
	}
	if different < 15 {
		t.Errorf("seeds 7 and 8 differ for %d of %d targets only", different, len(alone))
	}
	if failed < 80 || failed > 160 || len(kinds) < 8 {
		t.Errorf("seed 7: %d of 400 requests failed in these ways: %v", failed, kinds)
	}
}

func TestMaxConsecutiveBoundsCertainFailure(t *testing.T) {
	for _, test := range []struct{ limit, requests int }{{0, 4}, {1, 2}, {4, 5}, {-1, 6}} {
		server := start(t, s3test.Options{Faults: s3test.Faults{SlowDown: 1, MaxConsecutive: test.limit}})
		_, err := put(t, connect(t, server, 6), "k", pattern(100))
		if got := server.Count("PUT", ""); got != test.requests || (err == nil) != (test.limit >= 0) {
			t.Errorf("MaxConsecutive %d, 6 attempts: %d requests and %v, want %d", test.limit, got, err, test.requests)
		}
	}
}

func TestFiveAttemptsGetThroughAnyWeather(t *testing.T) {
	for seed := range uint64(5) {
		weather := s3test.TypicalFaults(seed)
		weather.SlowTime = time.Millisecond
		server := start(t, s3test.Options{Faults: weather})
		client := connect(t, server, 5)
		for i := range 20 {
			key, want := fmt.Sprintf("k%d", i), pattern(10_000+i)
			for err := errors.New("not yet"); err != nil; { // 429 is none the SDK retries
				if _, err = put(t, client, key, want); err != nil && status(err) != 429 {
					t.Fatalf("seed %d, put %s: %v", seed, key, err)
				}
			}
			if got, ok := server.Object(bucket, key); !ok || !bytes.Equal(got, want) {
				t.Errorf("seed %d: %s has %d bytes, want %d", seed, key, len(got), len(want))
			}
		}
	}
}

func TestPartsOfAnUploadAreCountedApart(t *testing.T) {
	server := start(t, s3test.Options{Script: first("UploadPart", s3test.SlowDown())})
	upload(t, connect(t, server, 2), "big", pattern(10), pattern(20), pattern(30))
	if got := server.Count("PUT", ""); got != 6 {
		t.Errorf("%d PUTs for three parts of which each fails once, want 6", got)
	}
}

func TestSetFaultsRefusesNonsenseAndKeepsTheOld(t *testing.T) {
	server := start(t, s3test.Options{Faults: s3test.Faults{SlowDown: 1, MaxConsecutive: -1}})
	if err := server.SetFaults(s3test.Faults{Reset: 2}); err == nil {
		t.Error("SetFaults took a probability of 2")
	}
	client := connect(t, server, 1)
	if _, err := put(t, client, "k", nil); code(err) != "SlowDown" {
		t.Errorf("put: %v, want the old faults' SlowDown", err)
	}
	if err := server.SetFaults(s3test.Faults{}); err != nil {
		t.Error(err)
	}
	if _, err := put(t, client, "k", nil); err != nil {
		t.Errorf("put without faults: %v", err)
	}
}

func TestGoneServerRefusesConnections(t *testing.T) {
	server := start(t, s3test.Options{})
	client := connect(t, server, 1)
	server.Close()
	server.Close()
	_, err := put(t, client, "k", nil)
	if _, ok := errors.AsType[*net.OpError](err); !ok || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("put to a closed server: %v, want connection refused", err)
	}
}
