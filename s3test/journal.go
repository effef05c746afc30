package s3test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Request is what a script sees of a request before it is served.
type Request struct {
	Operation string // the S3 operation, as "PutObject", "UploadPart", "ListObjectsV2"; "" if not known
	Method    string
	Path      string // "/bucket/key"
	Query     url.Values
	Header    http.Header // without the signature

	// N counts the requests for the same target from 1 since the start or [Server.Reset]. The same target means the same
	// operation, path and query (part number, continuation token ...), whatever the upload ID: each part of a multipart
	// upload counts for itself, so that concurrent parts don't change one another's numbers.
	N int
}

// Attempt is the AWS SDK's own count in the header amz-sdk-request, as "attempt=2; max=3"; "" if there is none.
func (r Request) Attempt() string { return r.Header.Get("Amz-Sdk-Request") }

// Record is a request that has come in.
type Record struct {
	Request
	At     time.Time
	Conn   int   // the number of the connection it came in on, from 1
	Fault  Fault // what was done to it
	Status int   // the HTTP status that was sent; 0 = none (yet)
}

// journal numbers and keeps the requests. All of it is under mu.
type journal struct {
	mu      sync.Mutex
	records []*Record
	targets map[string]*target
	faults  Faults
	script  func(Request) Fault
	denied  []string
	conns   int // since the start
	before  int // conns at the last reset
}

type target struct{ n, run int }

// begin records a request and decides what will happen to it.
func (j *journal) begin(r *http.Request, conn int) *Record {
	record := &Record{Request: describe(r), At: time.Now(), Conn: conn}
	seeded, script, denied := j.add(record, nameOf(record.Request, r))
	switch {
	case denied:
		seeded = AccessDenied()
	case script != nil: // called under no lock: it may ask the server
		if fault := script(record.Request); fault.Kind != None {
			seeded = fault
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	record.Fault = seeded
	return record
}

func (j *journal) add(record *Record, name string) (seeded Fault, script func(Request) Fault, denied bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records = append(j.records, record)
	if j.targets == nil {
		j.targets = make(map[string]*target)
	}
	t := j.targets[name]
	if t == nil {
		t = new(target)
		j.targets[name] = t
	}
	t.n++
	record.N = t.n
	seeded, t.run = j.faults.strikes(record.Request, name, t.run)
	denied = slices.ContainsFunc(j.denied, func(prefix string) bool { return strings.HasPrefix(record.Path, prefix) })
	return seeded, j.script, denied
}

// answered is called before the first byte goes out, so a client that has its answer finds it recorded.
func (j *journal) answered(record *Record, status int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	record.Status = status
}

func (j *journal) connected() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.conns++
	return j.conns
}

// Requests returns every request since the start or the last Reset, in the order in which they came in. They are kept
// until [Server.Reset].
func (s *Server) Requests() []Record {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	records := make([]Record, len(s.journal.records))
	for i, record := range s.journal.records {
		records[i] = *record
	}
	return records
}

// Count returns how many requests came in with that HTTP method ("" = any) and a path that begins so ("" = any).
func (s *Server) Count(method, pathPrefix string) int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	count := 0
	for _, r := range s.journal.records {
		if (method == "" || method == r.Method) && strings.HasPrefix(r.Path, pathPrefix) {
			count++
		}
	}
	return count
}

// Connections returns how many TCP connections clients have opened since the start or the last Reset.
func (s *Server) Connections() int {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	return s.journal.conns - s.journal.before
}

// Reset forgets all requests and counts, and starts the course of the seeded faults anew. Objects, script and faults stay.
func (s *Server) Reset() {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.records, s.journal.targets, s.journal.before = nil, nil, s.journal.conns
}

// Script sets the function that decides on each request; its faults go before the seeded ones. nil removes it.
// It is called on the request's goroutine, so by several at once, under no lock. See [Rules] for a script as a list.
func (s *Server) Script(script func(Request) Fault) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.script = script
}

// Deny answers 403 AccessDenied to every request whose path begins with one of these prefixes, as "/bucket/dir/".
// It replaces what was denied before and goes before script and faults; without arguments nothing is denied.
func (s *Server) Deny(pathPrefixes ...string) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.denied = slices.Clone(pathPrefixes)
}

// SetFaults replaces the seeded faults; the zero Faults ends them. An invalid one is refused and changes nothing.
func (s *Server) SetFaults(f Faults) error {
	if err := f.Validate(); err != nil {
		return err
	}
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.faults = f
	return nil
}

func describe(r *http.Request) Request {
	header := r.Header.Clone()
	header.Del("Authorization")
	header.Del("X-Amz-Security-Token")
	return Request{Operation: operation(r), Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: header}
}

// nameOf is the identity under which requests are counted.
func nameOf(described Request, r *http.Request) string {
	query := r.URL.Query()
	for name := range query {
		if name == "uploadId" || name == "x-id" || strings.HasPrefix(strings.ToLower(name), "x-amz-") {
			query.Del(name)
		}
	}
	return strings.Join([]string{described.Operation, r.Method, r.URL.Path, query.Encode()}, " ")
}

// operation names what S3 calls the request.
func operation(r *http.Request) string {
	query := r.URL.Query()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	switch {
	case bucket == "":
		return map[string]string{http.MethodGet: "ListBuckets"}[r.Method]
	case query.Has("delete"):
		return "DeleteObjects"
	case key == "" && query.Has("uploads"):
		return "ListMultipartUploads"
	case key == "" && query.Get("list-type") == "2":
		return "ListObjectsV2"
	case key == "":
		return map[string]string{
			http.MethodGet: "ListObjects", http.MethodPut: "CreateBucket",
			http.MethodHead: "HeadBucket", http.MethodDelete: "DeleteBucket",
		}[r.Method]
	case query.Has("tagging"):
		return map[string]string{
			http.MethodGet: "GetObjectTagging", http.MethodPut: "PutObjectTagging", http.MethodDelete: "DeleteObjectTagging",
		}[r.Method]
	case query.Has("uploads"):
		return "CreateMultipartUpload"
	case query.Has("uploadId"):
		return uploadOperation(r)
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	}
	return map[string]string{
		http.MethodGet: "GetObject", http.MethodPut: "PutObject",
		http.MethodHead: "HeadObject", http.MethodDelete: "DeleteObject",
	}[r.Method]
}

func uploadOperation(r *http.Request) string {
	if r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "" {
		return "UploadPartCopy"
	}
	return map[string]string{
		http.MethodPut: "UploadPart", http.MethodGet: "ListParts",
		http.MethodPost: "CompleteMultipartUpload", http.MethodDelete: "AbortMultipartUpload",
	}[r.Method]
}
