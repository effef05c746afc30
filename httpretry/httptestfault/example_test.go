package httptestfault_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A server that is busy, then cuts its answer short, then is well.
func ExampleNew() {
	page := []byte("hello, world")
	server := httptestfault.New(httptestfault.Steps(
		httptestfault.Step{Status: 503, Header: http.Header{"Retry-After": {"1"}}},
		httptestfault.Step{Body: page}.CutAt(5, httptestfault.FIN),
		httptestfault.Step{Body: page},
	))
	defer server.Close()
	for range 3 {
		res, err := http.Get(server.URL)
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		fmt.Printf("%d %q %v\n", res.StatusCode, body, err)
	}
	fmt.Println(len(server.Requests()), "requests")
	// Output:
	// 503 "" <nil>
	// 200 "hello" unexpected EOF
	// 200 "hello, world" <nil>
	// 3 requests
}

// Each answer depends on the request, and is spoiled as the test likes: here the entity changes behind a client's back.
func ExampleEntity() {
	old := httptestfault.Entity{Body: []byte("old text"), ETag: `"1"`}
	now := httptestfault.Entity{Body: []byte("new text"), ETag: `"2"`}
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Step {
		if n == 1 {
			return old.Answer(r).CutAt(2, httptestfault.FIN)
		}
		return now.Answer(r)
	})
	defer server.Close()
	req, err := http.NewRequest("GET", server.URL, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	req.Header.Set("Range", "bytes=4-")
	req.Header.Set("If-Range", `"1"`)
	for range 2 {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		fmt.Println(res.Status, res.Header.Get("ETag"), err != nil && !errors.Is(err, io.EOF))
	}
	// Output:
	// 206 Partial Content "1" true
	// 200 OK "2" false
}

// A stream that is refused was not looked at: net/http sends the request again by itself.
func ExampleNewH2() {
	server := httptestfault.NewH2(func(n int) httptestfault.H2Step {
		if n == 1 {
			return httptestfault.H2Step{Cut: httptestfault.H2Refused}
		}
		return httptestfault.H2Step{Body: []byte("hello")}
	})
	defer server.Close()
	client := &http.Client{Transport: server.Transport()}
	defer client.CloseIdleConnections()
	res, err := client.Get(server.URL)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	requests, _ := server.Requests()
	fmt.Println(string(body), err, requests, "requests")
	// Output: hello <nil> 2 requests
}
