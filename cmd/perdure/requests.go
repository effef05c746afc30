package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/copying"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/endpoint"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/pages"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/request"
	"github.com/seed-0f2c7998/perdure/internal/setting"
)

// requestFlags are the flags of copy about the requests for a URL.
type requestFlags struct {
	headers, files, expanded []string
	netrc                    bool
	netrcFile                string
	method, data             string
	idempotent               bool
	next, items              string
	maxPages                 int
}

// requestNames are the names of these flags.
var requestNames = []string{"header", "header-file", "header-env", "netrc", "netrc-file", "method", "data", "idempotent", "next", "items", "max-pages"} //nolint:gochecknoglobals // a constant

// refused returns the flags that cannot be used with many files, some of which may be URLs.
func (f *requestFlags) refused(urls bool) []string {
	if urls {
		return []string{"method", "data", "idempotent", "next", "items", "max-pages"}
	}
	return requestNames
}

func (f *requestFlags) add(flags *pflag.FlagSet) {
	flags.Var(appends(&f.headers), "header", "send a header field to SRC, a URL, as `'NAME: VALUE'`; other users can see it in the process list")
	flags.Var(appends(&f.files), "header-file", "`file` with such header fields, one in a line")
	flags.Var(appends(&f.expanded), "header-env", "send a header field with environment variables, as `'NAME: {{VARIABLE}}'`")
	flags.BoolVar(&f.netrc, "netrc", false, "take user and password of SRC, a URL, from ~/.netrc")
	flags.StringVar(&f.netrcFile, "netrc-file", "", "take user and password of SRC, a URL, from this netrc `file`")
	flags.StringVar(&f.method, "method", "", "`method` of the request to SRC, a URL: GET or POST (GET, or POST with --data)")
	flags.StringVar(&f.data, "data", "", "`text` to send in a POST, or @FILE, or @- for standard input; unchanged")
	flags.BoolVar(&f.idempotent, "idempotent", false, "the POST may be repeated: sent twice, it has the effect of one. So says a header field Idempotency-Key, too")
	flags.StringVar(&f.next, "next", "", "read all pages of a JSON API; the URL of the next one is in this `field` of a page, or with FIELD=PARAMETER a token for that parameter, or with link in the header field Link")
	flags.StringVar(&f.items, "items", "", "`field` of a page that is the array of items, which become JSON lines; . if the page is the array, the default with --next")
	flags.Var(policy.Whole(&f.maxPages, 1, 1<<30), "max-pages", fmt.Sprintf("fail after this `number` of pages (%d)", pages.DefaultMax))
}

// appends is a flag that may be repeated.
func appends(to *[]string) each {
	return func(text string) error {
		*to = append(*to, text)
		return nil
	}
}

// apply sets the requests of a session. It reads the files that the flags name.
func (f *requestFlags) apply(a *app, flags *pflag.FlagSet, s *endpoint.Session, source string) error {
	for _, name := range requestNames {
		if flags.Lookup(name) != nil && flags.Changed(name) {
			s.RequestFlag, s.Request = "--"+name, new(request.Request)
			break
		}
	}
	if s.Request == nil {
		return nil
	}
	for _, set := range []func(*app, *pflag.FlagSet, *request.Request, string) error{f.setMethod, f.setHeader, f.setNetrc} {
		if err := set(a, flags, s.Request, source); err != nil {
			return exit.UsageError(err)
		}
	}
	return f.setPages(flags, s)
}

// setPages sets how pages are read.
func (f *requestFlags) setPages(flags *pflag.FlagSet, s *endpoint.Session) error {
	paged := flags.Changed("next") || flags.Changed("items")
	switch {
	case flags.Changed("max-pages") && !flags.Changed("next"):
		return exit.UsageError(errors.New("--max-pages can only be used with --next"))
	case !paged:
		return nil
	case s.Request.Method == "POST":
		return exit.UsageError(errors.New("--next and --items cannot be used with a POST"))
	case flags.Changed("items") && f.items == "":
		return setting.Bad("--items", "", "the field of an array, such as data.items, or . for the page itself")
	}
	spec, ok := pages.Parse(f.next, f.items)
	if !ok || flags.Changed("next") && f.next == "" {
		return setting.Bad("--next", f.next, pages.Want)
	}
	spec.Max, s.Pages = f.maxPages, &spec
	return nil
}

// checkOnce returns the error of a flag without effect on a source that is read once, from its beginning to its end.
func checkOnce(flags *pflag.FlagSet, job *copying.Job) error {
	what := ""
	switch r := job.Session.Request; {
	case r != nil && r.Method == "POST":
		what = "a POST"
	case job.Session.Pages != nil:
		what = "--next and --items"
	case job.Source == "-":
		what = "standard input"
	default:
		return nil
	}
	switch toObject := strings.HasPrefix(job.Destination, "s3://"); {
	case flags.Changed("no-resume"):
		return exit.UsageError(fmt.Errorf("--no-resume cannot be used with %s as SRC: nothing of it is resumed", what))
	case flags.Changed("parallel") && !toObject:
		return exit.UsageError(fmt.Errorf("--parallel cannot be used with %s as SRC, unless DST is an object, whose parts are sent in parallel", what))
	}
	return nil
}

// setMethod sets the method and the body.
func (f *requestFlags) setMethod(a *app, flags *pflag.FlagSet, r *request.Request, source string) (err error) {
	r.Method, r.Idempotent = f.method, f.idempotent
	if flags.Changed("data") && f.method == "" {
		r.Method = "POST"
	}
	switch {
	case flags.Changed("method") && f.method != "GET" && f.method != "POST":
		return setting.Bad("--method", f.method, "GET or POST")
	case flags.Changed("data") && r.Method != "POST":
		return fmt.Errorf("--data cannot be used with --method %s: it is sent in a POST", r.Method)
	case f.idempotent && r.Method != "POST":
		return fmt.Errorf("--idempotent can only be used with --method POST or --data: a GET is repeated without it")
	case !flags.Changed("data"):
		return nil
	}
	if r.Body, err = body(a, f.data, source); err != nil {
		return fmt.Errorf("--data %s: %w", f.data, err)
	}
	return nil
}

// body returns the bytes of --data.
func body(a *app, data, source string) ([]byte, error) {
	path, isFile := strings.CutPrefix(data, "@")
	switch {
	case !isFile:
		return []byte(data), nil
	case path != "-":
		return readFile(path, maxData)
	case source == "-":
		return nil, errors.New("standard input is SRC")
	case endpoint.WasClosed(a.stdin):
		return nil, endpoint.ErrClosed
	}
	return readAtMost(a.stdin, maxData)
}

// setHeader sets the header fields.
func (f *requestFlags) setHeader(a *app, _ *pflag.FlagSet, r *request.Request, _ string) error {
	for _, line := range f.headers {
		if err := r.Add(line); err != nil {
			return fmt.Errorf("--header: %w", err)
		}
	}
	for _, path := range f.files {
		text, err := readText(path)
		if err == nil {
			err = r.AddLines(text)
		}
		if err != nil {
			return fmt.Errorf("--header-file %s: %w", path, err)
		}
	}
	for _, line := range f.expanded {
		if err := r.AddExpanded(line, a.getenv); err != nil {
			return fmt.Errorf("--header-env: %w", err)
		}
	}
	return nil
}

// setNetrc reads the netrc file.
func (f *requestFlags) setNetrc(a *app, flags *pflag.FlagSet, r *request.Request, _ string) error {
	path := f.netrcFile
	switch {
	case flags.Changed("netrc-file") && path == "":
		return setting.Bad("--netrc-file", "", "a netrc file")
	case !f.netrc && path == "":
		return nil
	case path == "":
		home := a.getenv("HOME")
		if runtime.GOOS == "windows" {
			home = a.getenv("USERPROFILE")
		}
		if home == "" {
			return fmt.Errorf("--netrc: the environment variable HOME is not set; use --netrc-file FILE")
		}
		path = filepath.Join(home, ".netrc")
	}
	text, err := readText(path)
	if err == nil {
		r.Netrc, err = request.ParseNetrc(path, text)
	}
	if err != nil {
		return fmt.Errorf("netrc file %s: %w", path, err)
	}
	return nil
}

// The largest files that are read, in bytes.
const (
	maxConfig = 1 << 20
	maxData   = 64 << 20
)

// readText returns the text of a file, without a byte order mark.
func readText(path string) (string, error) {
	data, err := readFile(path, maxConfig)
	return strings.TrimPrefix(string(data), "\ufeff"), err
}

// readFile returns the content of a file, which may be a pipe.
func readFile(path string, most int64) ([]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	return readAtMost(in, most)
}

// readAtMost returns all of in, which may have that many bytes.
func readAtMost(in io.Reader, most int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(in, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(data)) > most:
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	return data, nil
}
