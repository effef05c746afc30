package httptestfault_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
)

// A server that is busy, then cuts a response short, then works.
func ExampleNew() {
	page := []byte("hello, world")
	server := httptestfault.New(httptestfault.Responses(
		httptestfault.Response{Status: 503, Header: http.Header{"Retry-After": {"1"}}},
		httptestfault.Response{Body: page, Fault: httptestfault.CutBody(5)},
		httptestfault.Response{Body: page},
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

// Each response depends on the request and is changed by the test: here the resource changes between two requests.
func ExampleResource() {
	old := httptestfault.Resource{Body: []byte("old text"), ETag: `"1"`}
	now := httptestfault.Resource{Body: []byte("new text"), ETag: `"2"`}
	server := httptestfault.New(func(n int, r *http.Request) httptestfault.Response {
		if n == 1 {
			return old.Respond(r).With(httptestfault.CutBody(2))
		}
		return now.Respond(r)
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

// The server did not process a refused stream: net/http sends the request again by itself.
func ExampleNewH2() {
	server := httptestfault.NewH2(func(n int, _ *http.Request) httptestfault.Response {
		if n == 1 {
			return httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.RefuseStream}}
		}
		return httptestfault.Response{Body: []byte("hello")}
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
	requests := len(server.Requests())
	fmt.Println(string(body), err, requests, "requests")
	// Output: hello <nil> 2 requests
}
