package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/internal/secrettest"
	"github.com/seed-0f2c7998/perdure/internal/testseed"
)

// apiServer serves three pages of two items each. page has what a style of paging adds.
func apiServer(t *testing.T, page func(w http.ResponseWriter, r *http.Request, n int, items string)) *requestLog {
	t.Helper()
	return listen(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("page"))
		page(w, r, n, fmt.Sprintf("[{\"id\": %d,\n \"name\": \"<ä>\\n\"}, {\"id\": %d.0}]", 2*n, 2*n+1))
	})
}

// lines returns the items of apiServer.
func lines() string {
	var b strings.Builder
	for n := range 3 {
		fmt.Fprintf(&b, "{\"id\":%d,\"name\":\"<ä>\\n\"}\n{\"id\":%d.0}\n", 2*n, 2*n+1)
	}
	return b.String()
}

// All ways to name the next page give the same lines, byte for byte, in a file, in an object and on standard output.
func TestPagesOfAnAPI(t *testing.T) {
	s := startTestServers(t)
	for args, page := range map[string]func(w http.ResponseWriter, r *http.Request, n int, items string){
		"--next|link": func(w http.ResponseWriter, _ *http.Request, n int, items string) {
			w.Header().Add("Link", `</?page=0>; rel="first prev", </a,b;c>; title="x, <y>; rel=next"; rel=up`)
			if n < 2 {
				w.Header().Add("Link", fmt.Sprintf(`<?page=%d>; title="\"next\""; REL = "last Next"`, n+1))
			}
			fmt.Fprint(w, items)
		},
		"--next|paging.next|--items|data.items": func(w http.ResponseWriter, r *http.Request, n int, items string) {
			next := "null"
			if n < 2 {
				next = fmt.Sprintf(`"http://%s/?page=%d"`, r.Host, n+1)
			}
			fmt.Fprintf(w, `{"paging": {"next": %s}, "data": {"items": %s}}`, next, items)
		},
		"--next|.@odata.nextLink|--items|.value": func(w http.ResponseWriter, _ *http.Request, n int, items string) {
			next := ""
			if n < 2 {
				next = fmt.Sprintf(`, "@odata.nextLink": "/other?page=%d"`, n+1)
			}
			fmt.Fprintf(w, `{"value": %s%s}`, items, next)
		},
		"--next|nextPageToken=page|--items|items": func(w http.ResponseWriter, _ *http.Request, n int, items string) {
			next := `""`
			if n < 2 {
				next = strconv.Itoa(n + 1)
			}
			fmt.Fprintf(w, `{"items": %s, "nextPageToken": %s}`, items, next)
		},
		"--next|more=page|--items|items": func(w http.ResponseWriter, _ *http.Request, n int, items string) {
			next := "false"
			if n < 2 {
				next = strconv.Quote(strconv.Itoa(n + 1))
			}
			fmt.Fprintf(w, "\ufeff"+`{"items": %s, "more": %s}`, items, next) // with a byte order mark
		},
	} {
		l := apiServer(t, page)
		given := append(strings.Split(args, "|"), "--header", "Authorization: Bearer "+secrettest.Token)
		to := filepath.Join(t.TempDir(), "out.jsonl")
		log := mustRun(t, s, 0, append([]string{"copy", l.URL + "/?limit=2", to}, given...)...)
		if got, _ := os.ReadFile(to); string(got) != lines() || !strings.Contains(log, "INFO: Read 3 pages with 6 items\n") {
			t.Errorf("%s: the file has\n%s, want\n%s\n%s", args, got, lines(), log)
		}
		got := l.take()
		for _, r := range got {
			if r.Header.Get("Authorization") == "" {
				t.Errorf("%s: a request has no header field: %v", args, r)
			}
		}
		if len(got) != 3 {
			t.Errorf("%s: %d requests, want 3", args, len(got))
		}
		mustRun(t, s, 0, append([]string{"copy", l.URL + "/?limit=2", "s3://bikes/out.jsonl"}, given...)...)
		if stored, _ := s.store.Object("bikes", "out.jsonl"); string(stored) != lines() {
			t.Errorf("%s: the object has\n%s, want\n%s", args, stored, lines())
		}
		if log := mustRun(t, s, 0, append([]string{"copy", l.URL + "/?limit=2", "-"}, given...)...); !strings.HasPrefix(log, lines()) && !strings.Contains(log, lines()) {
			t.Errorf("%s: standard output has\n%s, want\n%s", args, log, lines())
		}
	}
}

// A page that is cut, or fails for a while, is fetched again; no other page is.
func TestPagesThroughFailures(t *testing.T) {
	s := startTestServers(t)
	tries := map[int]int{}
	l := apiServer(t, func(w http.ResponseWriter, _ *http.Request, n int, items string) {
		body := fmt.Sprintf(`{"items": %s, "next": "?page=%d"}`, items, n+1)
		if n == 2 {
			body = fmt.Sprintf(`{"items": %s}`, items)
		}
		tries[n]++
		switch {
		case n == 0 && tries[n] == 1:
			w.WriteHeader(http.StatusServiceUnavailable)
		case n > 0 && tries[n] <= n: // without a validator: the body cannot be resumed
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write([]byte(body[:len(body)-3]))
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		default:
			fmt.Fprint(w, body)
		}
	})
	to := filepath.Join(t.TempDir(), "out")
	mustRun(t, s, 0, "copy", l.URL, to, "--next", "next", "--items", "items")
	if got, _ := os.ReadFile(to); string(got) != lines() {
		t.Errorf("the file has\n%s, want\n%s", got, lines())
	}
	if got := len(l.take()); got != 2+2+3 {
		t.Errorf("%d requests, want 7", got)
	}
	clear(tries)
	log := mustRun(t, s, 0, "copy", l.URL, "-", "--next", "next", "--items", "items")
	if !strings.Contains(log, "{\"id\":4,") || strings.Count(log, "{\"id\":0,") != 1 {
		t.Errorf("standard output and log are\n%s", log)
	}
}

// What is wrong with a page ends the copy: the error names the page, and nothing is written.
func TestPagesThatAreWrong(t *testing.T) {
	s := startTestServers(t)
	body := ""
	l := listen(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("page") {
		case "":
			fmt.Fprint(w, `{"items": [1], "next": "?page=2", "token": 2, "list": 1}`)
		case "2":
			if code, err := strconv.Atoi(body); err == nil {
				w.WriteHeader(code)
				if code == http.StatusNotFound {
					return
				}
				fmt.Fprint(w, "not now: "+r.Header.Get("Authorization"))
				return
			}
			fmt.Fprint(w, body)
		default: // pages without end
			n, _ := strconv.Atoi(r.URL.Query().Get("page"))
			fmt.Fprintf(w, `{"items": [1], "next": "?page=%d"}`, n+1)
		}
	})
	const field = "--next|next|--items|items"
	for _, row := range []struct {
		args, body string
		code       int
		want       string
	}{
		{field, `{"items": [2], "next": "/"}`, 1, "page 3 (SERVER/): the pages are a loop: page 1 has the same URL"},
		{field, `{"items": [2], "next": "?page=2#x"}`, 1, "page 3 (SERVER/?page=2#x): the pages are a loop: page 2 has the same URL"},
		{"--next|token=page|--items|items", `{"items": [2], "token": 2}`, 1, "the pages are a loop: page 2 has the same URL"},
		{field, `{"items": [2]`, 1, "page 2 (SERVER/?page=2): the body is not JSON: {\"items\": [2]\n"},
		{field, "<html>\x1b[31m\n<h1>Login", 1, `page 2 (SERVER/?page=2): the body is not JSON: <html>\x1b[31m <h1>Login`},
		{field, "", 1, "page 2 (SERVER/?page=2): the body is not JSON\n"},
		{
			field, `{"ok": false, "error": "invalid_auth", "password": "` + secrettest.Password + `", "sent": "` + secrettest.Token + `"}`, 1,
			`page 2 (SERVER/?page=2): it has no field items (--items): {"ok": false, "error": "invalid_auth", "password": "REDACTED", "sent": "REDACTED"}`,
		},
		{field, `{"items": {}}`, 1, `its field items is not an array (--items): {"items": {}}`},
		{field, `{"items": [], "next": {}}`, 1, "its field next must be a text, a number or null (--next)"},
		{field, `{"items": [], "next": true}`, 1, "its field next must be a text, a number or null (--next)"},
		{field, `{"items": [], "next": "ftp://x/"}`, 1, "its next page has no http or https URL (--next)"},
		{field, `{"items": [], "next": ":"}`, 1, "its next page has no http or https URL (--next)"},
		{"--next|next", "", 1, "page 1 (SERVER/): it is not an array: --items names the field that is one"},
		{field + "|--max-pages|5", `{"items": [2], "next": "?page=3"}`, 1, "page 6 (SERVER/?page=6): more than 5 pages: --max-pages allows another number"},
		{field, "404", 1, "page 2 (SERVER/?page=2): 404 Not Found\n"},
		{field, "403", 1, "page 2 (SERVER/?page=2): 403 Forbidden: not now: REDACTED"},
		{field, "503", 69, "page 2 (SERVER/?page=2): attempts exhausted after 3 attempts: 503 Service Unavailable: not now: REDACTED"},
	} {
		body = row.body
		to := filepath.Join(t.TempDir(), "out")
		log := mustRun(t, s, row.code, append([]string{"copy", l.URL + "/", to, "--header", "Authorization: Bearer " + secrettest.Token, "--max-attempts", "3", "--failure-threshold", "100"}, strings.Split(row.args, "|")...)...)
		if want := strings.ReplaceAll(row.want, "SERVER", l.URL); !strings.Contains(log, want) {
			t.Errorf("%s %s:\n%s, want %s", row.args, row.body, log, want)
		}
		if left, _ := filepath.Glob(filepath.Join(filepath.Dir(to), "*")); len(left) > 0 {
			t.Errorf("%s %s: %v is written", row.args, row.body, left)
		}
	}
	body = "403" // standard output has the pages before it, whole
	if log := mustRun(t, s, 1, append([]string{"copy", l.URL + "/", "-"}, strings.Split(field, "|")...)...); !strings.HasPrefix(log, "1\nperdure: ") {
		t.Errorf("standard output has\n%s, want the first page", log)
	}
	for args, want := range map[string]string{
		l.URL + "/more|--next|x": "--next is for one file: it cannot be used with --recursive, several SRC or a pattern",
		"--next|":                `invalid value "" for --next: must be a field, not empty`, "--next|=x": "for --next", "--next|a=": "for --next", "--next|.": "for --next",
		"--items|": "for --items", "--max-pages|3": "--max-pages can only be used with --next", "--max-pages|0|--next|x": "max-pages",
		"--next|x|--data|y": "--next and --items cannot be used with a POST",
	} {
		if log := mustRun(t, s, 64, slices.Concat([]string{"copy", l.URL + "/x"}, strings.Split(args, "|"), []string{filepath.Join(t.TempDir(), "out")})...); !strings.Contains(log, want) {
			t.Errorf("%s:\n%s, want %s", args, log, want)
		}
	}
}

// A next page elsewhere is read without the fields and the user of the command, and so is each page after it.
func TestPagesElsewhere(t *testing.T) {
	s := startTestServers(t)
	var own, other *requestLog
	other = listen(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"i": [2], "next": %q}`, own.URL+"/end") })
	own = listen(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/end":
			fmt.Fprint(w, `{"i": [3]}`)
		case "/moved":
			http.Redirect(w, r, other.URL, http.StatusFound)
		default:
			fmt.Fprintf(w, `{"i": [1], "next": %q}`, strings.Replace(other.URL, "://", "://x:y@", 1))
		}
	})
	netrc := fileWith(t, "default login user password "+secrettest.Password)
	for name, args := range map[string][]string{
		"fields": {own.URL + "/", "--header", "Authorization: Bearer " + secrettest.Token, "--header", "X-Mine: 1", "--header", "Host: inner"},
		"netrc":  {own.URL + "/", "--netrc-file", netrc}, "user": {strings.Replace(own.URL, "://", "://user:"+secrettest.Password+"@", 1)},
		"moved": {own.URL + "/moved", "--header", "Authorization: Bearer " + secrettest.Token, "--header", "X-Mine: 1"},
	} {
		to := filepath.Join(t.TempDir(), "out")
		mustRun(t, s, 0, append([]string{"copy", args[0], to, "--next", "next", "--items", "i"}, args[1:]...)...)
		var n []int
		text, _ := os.ReadFile(to)
		for line := range strings.Lines(string(text)) {
			var v int
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Error(err)
			}
			n = append(n, v)
		}
		if want := map[bool]string{true: "[1 2 3]", false: "[2 3]"}[name != "moved"]; fmt.Sprint(n) != want {
			t.Errorf("%s: %v, want %s", name, n, want)
		}
		first := own.take()
		if len(first) != 2 || first[0].Header.Get("Authorization") == "" {
			t.Fatalf("%s: the first page has %v", name, first)
		}
		for _, r := range append(other.take(), first[1]) {
			if r.Header.Get("Authorization") != "" || r.Header.Get("X-Mine") != "" || r.Host == "inner" {
				t.Errorf("%s: the request elsewhere has %+v", name, r)
			}
		}
	}
}

// Pages of any number and size give their items in order, whatever fails: a naive twin joins the items by line ends.
func TestRandomPages(t *testing.T) {
	s := startTestServers(t)
	random := rand.New(rand.NewPCG(testseed.Of(t, 16), 1))
	values := []string{
		`1`, `-0.10e+5`, `12345678901234567890123`, `"a b"`, `"\u00e4\n<&>\u2028"`, `"ä\\\""`, `null`, `true`, `[]`, `{}`, `[[1,2],{"a":[]}]`,
		`{"next":"?page=1","items":[9]}`, `{"b":1,"a":2,"b":3}`,
	}
	for round := range 40 {
		pages := make([][]string, 1+random.IntN(5))
		want := ""
		for n := range pages {
			for range random.IntN(4) {
				item := values[random.IntN(len(values))]
				pages[n], want = append(pages[n], item), want+item+"\n"
			}
		}
		style, indent, faults := random.IntN(3), strings.Repeat(" ", random.IntN(3)), random.IntN(4)
		l := listen(t, func(w http.ResponseWriter, r *http.Request) {
			n, _ := strconv.Atoi(r.URL.Query().Get("page"))
			items := "[" + strings.Join(pages[n], ",") + "]"
			body, last := items, n == len(pages)-1
			switch {
			case style == 0 && !last:
				w.Header().Set("Link", fmt.Sprintf(`</x?page=%d>; rel=next`, n+1))
			case style == 1 && !last:
				body = fmt.Sprintf(`{"items":%s,"next":"?page=%d"}`, items, n+1)
			case style == 2 && !last:
				body = fmt.Sprintf(`{"next":{"token":%d},"items":%s}`, n+1, items)
			case style > 0:
				body = fmt.Sprintf(`{"items":%s,"next":null}`, items)
			}
			var spaced bytes.Buffer
			_ = json.Indent(&spaced, []byte(body), "", indent) // it is JSON
			if faults--; faults >= 0 {
				if faults%2 == 0 {
					w.WriteHeader(http.StatusBadGateway)
					return
				}
				w.Header().Set("Content-Length", strconv.Itoa(spaced.Len()))
				_, _ = w.Write(spaced.Bytes()[:spaced.Len()/2])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			_, _ = w.Write(spaced.Bytes())
		})
		to := filepath.Join(t.TempDir(), "out")
		args := [][]string{{"--next", "link"}, {"--next", "next", "--items", "items"}, {"--next", "next.token=page", "--items", "items"}}[style]
		log := mustRun(t, s, 0, append([]string{"copy", l.URL + "/x", to, "--max-attempts", "5"}, args...)...)
		if got, _ := os.ReadFile(to); string(got) != want {
			t.Errorf("round %d, %q: the pages %q give\n%s, want\n%s\n%s", round, args, pages, got, want, log)
		}
		l.Close()
	}
}

// --items alone reads one page. A page has a limit.
func TestOnePage(t *testing.T) {
	s := startTestServers(t)
	l := listen(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"data": [{"a": 1}], "next": "/other"}`)
		if r.URL.Path == "/huge" {
			spaces := bytes.Repeat([]byte(" "), 1<<20)
			for range 65 {
				_, _ = w.Write(spaces) // until the client has enough
			}
		}
	})
	to := filepath.Join(t.TempDir(), "out")
	log := mustRun(t, s, 0, "copy", l.URL+"/x", to, "--items", "data")
	if got, _ := os.ReadFile(to); string(got) != "{\"a\":1}\n" || len(l.take()) != 1 || !strings.Contains(log, "Read 1 page with 1 item\n") {
		t.Errorf("the file has %q\n%s", got, log)
	}
	if log := mustRun(t, s, 0, "copy", l.URL+"/x", to, "--items", "data", "--next", "nxet"); !strings.Contains(log, "Read 1 page with 1 item; it names no next page: if there are more, check --next") {
		t.Errorf("%s, want to be told of the misspelt field", log)
	}
	l.take()
	if log := mustRun(t, s, 1, "copy", l.URL+"/huge", to, "--items", "data"); !strings.Contains(log, "page 1 ("+l.URL+"/huge): the page exceeds 67108864 bytes") {
		t.Errorf("%s, want the limit", log)
	}
	if n := len(l.take()); n != 1 {
		t.Errorf("%d requests for a page that is too large, want 1", n)
	}
}
