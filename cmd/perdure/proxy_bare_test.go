package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

// bareProxy is what perdure proxy is compared with: a ReverseProxy and nothing more, with the same transport.
func bareProxy() {
	to, err := url.Parse(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintf(os.Stderr, "Serving %s\n", l.Addr())
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DisableCompression, base.MaxIdleConns, base.MaxIdleConnsPerHost = true, 1024, 256
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }, Transport: base, FlushInterval: 100 * time.Millisecond,
	}}
	log.Fatal(server.Serve(l))
}
