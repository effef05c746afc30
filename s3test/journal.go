package s3test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Request is a request that the server has received.
type Request struct {
	Operation string // the S3 operation, as "PutObject", "UploadPart", "ListObjectsV2"; "" if unknown
	Method    string
	Path      string // "/bucket/key"
	Query     url.Values
	Header    http.Header // without the signature

	// N is the number of the request among those for the same target, from 1 since the start or [Server.Reset]. The target
	// is the operation, path and query (part number, continuation token ...) without the upload ID: each part of a
	// multipart upload has its own numbers, so concurrent parts do not change each other's.
	N int

	Conn int       // the number of the connection, from 1
	At   time.Time // when the server received the header

	// Fault and Status are what the server did. When a Script is called, both are zero.
	Fault  Fault
	Status int // the HTTP status that the server sent; 0 means none, or none yet
}

// journal numbers and keeps the requests. mu guards all fields.
type journal struct {
	mu      sync.Mutex
	records []*Request
	targets map[string]*target
	faults  Faults
	script  Script
	denied  []string
	conns   int // since the start
	before  int // conns at the last reset
}

type target struct{ n, run int }

// begin records a request and decides on its fault.
func (j *journal) begin(r *http.Request, conn int) *Request {
	record := describe(r)
	record.Conn, record.At = conn, time.Now()
	fault, script, denied := j.add(record, nameOf(record, r))
	switch {
	case denied:
		fault = AccessDenied()
	case script != nil: // called under no lock: the script may call the server's methods
		if scripted := script(*record); scripted.Kind != None {
			fault = scripted
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	record.Fault = fault
	return record
}

func (j *journal) add(record *Request, name string) (seeded Fault, script Script, denied bool) {
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
	seeded, t.run = j.faults.decide(*record, name, t.run)
	denied = slices.ContainsFunc(j.denied, func(prefix string) bool { return strings.HasPrefix(record.Path, prefix) })
	return seeded, j.script, denied
}

// responded is called before the first byte is sent, so a client that has its response finds it recorded.
func (j *journal) responded(record *Request, status int) {
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

// Requests returns all requests since the start or the last Reset, in the order in which the server received them.
func (s *Server) Requests() []Request {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	records := make([]Request, len(s.journal.records))
	for i, record := range s.journal.records {
		records[i] = *record
	}
	return records
}

// Count returns the number of requests since the start or the last Reset with the given HTTP method ("" means any) and a
// path that begins with pathPrefix ("" means any).
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

// Reset deletes the recorded requests, sets all counts to 0, and restarts the seeded faults. Objects, script and Faults
// stay.
func (s *Server) Reset() {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.records, s.journal.targets, s.journal.before = nil, nil, s.journal.conns
}

// SetScript replaces the script; nil means no script. A fault of the script takes precedence over a seeded one.
// See [Rules] for a script as a list.
func (s *Server) SetScript(script Script) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.script = script
}

// Deny responds with 403 AccessDenied to each request whose path begins with one of the prefixes, as "/bucket/dir/".
// It replaces the prefixes of the last call and takes precedence over script and faults; without arguments no request is
// denied.
func (s *Server) Deny(pathPrefixes ...string) {
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.denied = slices.Clone(pathPrefixes)
}

// SetFaults replaces the seeded faults; the zero Faults means none. If f is invalid, SetFaults returns an error and changes nothing.
func (s *Server) SetFaults(f Faults) error {
	if err := f.Validate(); err != nil {
		return err
	}
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	s.journal.faults = f
	return nil
}

func describe(r *http.Request) *Request {
	header := r.Header.Clone()
	header.Del("Authorization")
	header.Del("X-Amz-Security-Token")
	return &Request{Operation: operation(r), Method: r.Method, Path: r.URL.Path, Query: r.URL.Query(), Header: header}
}

// nameOf returns the name of a request's target, under which requests are counted.
func nameOf(described *Request, r *http.Request) string {
	query := r.URL.Query()
	for name := range query {
		if name == "uploadId" || name == "x-id" || strings.HasPrefix(strings.ToLower(name), "x-amz-") {
			query.Del(name)
		}
	}
	return strings.Join([]string{described.Operation, r.Method, r.URL.Path, query.Encode()}, " ")
}

// operation returns S3's name for the request.
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
