// Asks a server with net/http/pprof a list of requests, each over a socket of its own, and prints what it answers, one JSON
// object a line. `go run . >../go-http.jsonl` in this folder writes the table that `tests/http_like_go.rs` compares with.
//
// Of an answer are kept: the status, the headers that pprof's handlers set, and the body as far as it is the same in every
// program: whole if it is an error or short, else its kind and its first line, with every number as N.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"
)

type answer struct {
	Request   string            `json:"request"`
	Status    int               `json:"status"`
	Headers   map[string]string `json:"headers"`
	Kind      string            `json:"kind"`
	FirstLine string            `json:"first_line"`
}

var kept = []string{"Content-Type", "Content-Disposition", "X-Go-Pprof", "X-Content-Type-Options", "Allow", "Location"}

var profiles = []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate", "custom", "nosuch"}

var queries = []string{
	"", "?", "?debug=0", "?debug=1", "?debug=2", "?debug=-1", "?debug=x", "?debug=1.5", "?debug=%31", "?debug=+1", "?debug=",
	"?debug=1&debug=0", "?debug=1;x=1", "?gc=1", "?gc=x", "?gc=1&debug=1",
	"?seconds=", "?seconds=0", "?seconds=-1", "?seconds=abc", "?seconds=1.5", "?seconds=1s", "?seconds=+1", "?seconds=0x1",
	"?seconds=99999999999999999999", "?seconds=1&debug=1", "?seconds=1&debug=2", "?seconds=1&debug=-1",
}

// targets lists what is asked with GET.
func targets() []string {
	var list []string
	for _, name := range profiles {
		for _, query := range queries {
			list = append(list, "/debug/pprof/"+name+query)
		}
	}
	for _, name := range []string{"goroutine", "heap", "allocs", "threadcreate", "custom", "nosuch"} {
		list = append(list, "/debug/pprof/"+name+"?seconds=1", "/debug/pprof/"+name+"?seconds=1&debug=0")
	}
	return append(list,
		"/debug/pprof", "/debug/pprof?debug=1", "/debug/pprof/", "/debug/pprof/?debug=1", "/debug/pprof/index",
		"/debug/pprof/heap/", "/debug/pprof/%68eap", "/debug/pprof/heap%2f", "/debug/pprof/Heap", "/debug/pprof/heap%20",
		"/debug/pprof//heap", "/debug//pprof/heap", "//debug/pprof/", "/debug/pprof/../pprof/", "/debug/pprof/./heap",
		"/debug/../debug/pprof/", "/debug/pprof/..", "/", "/debug", "/debug/", "/debug/pprofx", "/nosuch", "/index.html",
		"/debug/pprof/cmdline", "/debug/pprof/cmdline?debug=1", "/debug/pprof/cmdline/",
		"/debug/pprof/symbol", "/debug/pprof/symbol?", "/debug/pprof/symbol?0x0", "/debug/pprof/symbol?abc",
		"/debug/pprof/symbol?0x1+0x2", "/debug/pprof/symbol?1&2", "/debug/pprof/symbol/",
		"/debug/pprof/profile?seconds=1", "/debug/pprof/profile?seconds=1&debug=1", "/debug/pprof/profile/",
		"/debug/pprof/trace/", "/debug/pprof/%zz", "/debug/pprof/goroutine?debug=%zz", "/debug/pprof/goroutine?%zz=1&debug=1",
		"/debug/pprof/goroutine#x", "/debug/pprof/goroutine?debug=1#x",
	)
}

// requests lists whole requests; HOST stands for the server's address.
func requests() []string {
	plain := func(method, target string) string {
		return method + " " + target + " HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"
	}
	var list []string
	for _, target := range targets() {
		list = append(list, plain("GET", target))
	}
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", "FOO"} {
		for _, path := range []string{"", "/", "/goroutine", "/heap?debug=1", "/nosuch", "/cmdline", "/custom?seconds=1"} {
			list = append(list, plain(method, "/debug/pprof"+path))
		}
	}
	return append(list,
		plain("HEAD", "/debug/pprof/goroutine?seconds=1"), plain("HEAD", "/debug/pprof/profile?seconds=1"),
		plain("HEAD", "/debug/pprof/symbol"), plain("POST", "/debug/pprof/profile"), plain("PUT", "/debug/pprof/symbol"),
		plain("POST", "/debug/pprof/symbol"), plain("POST", "/nosuch"), plain("OPTIONS", "*"),
		"GET /debug/pprof/cmdline HTTP/1.0\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.0\r\nHost: HOST\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nConnection: close\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n",
		"GET http://HOST/debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nContent-Length: x\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nAccept-Encoding: gzip, br\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nRange: bytes=0-1\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nIf-None-Match: *\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nOrigin: http://evil.example\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nBad Header: x\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\nno colon\r\n\r\n",
		"GET /debug/pprof/nosuch HTTP/3.7\r\nHost: HOST\r\nConnection: close\r\n\r\n",
		"GET /debug/pprof/nosuch\r\nHost: HOST\r\n\r\n",
		"nonsense\r\n\r\n",
		"GET /debug/pprof/no such HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n",
	)
}

var number = regexp.MustCompile(`0x[0-9a-f]+|[0-9]+`)

func ask(address, request string) answer {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(connection, strings.ReplaceAll(request, "HOST", address)); err != nil {
		log.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		log.Fatalf("%q: %v", request, err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatalf("%q: %v", request, err)
	}
	result := answer{Request: request, Status: response.StatusCode, Headers: map[string]string{}}
	for _, name := range kept {
		if value := response.Header.Get(name); value != "" {
			result.Headers[name] = value
		}
	}
	text := string(body)
	first, _, _ := strings.Cut(text, "\n")
	switch {
	case text == "":
		result.Kind = "empty"
	case strings.HasPrefix(text, "\x1f\x8b"):
		result.Kind = "gzip"
	case strings.Contains(text, "<html>"):
		result.Kind = "html"
	case strings.Contains(request, "/cmdline"):
		result.Kind = "cmdline"
	case strings.HasPrefix(text, "goroutine ") && strings.Contains(first, "["):
		result.Kind = "dump"
	case response.StatusCode == 200 && strings.Count(text, "\n") > 1:
		result.Kind, result.FirstLine = "text", number.ReplaceAllString(first, "N")
	default:
		result.Kind, result.FirstLine = "whole", text
	}
	return result
}

func main() {
	runtime.SetBlockProfileRate(1)
	runtime.SetMutexProfileFraction(1)
	pprof.NewProfile("custom").Add(1, 0)
	// Parse errors are the server's to answer, not to log.
	server := http.Server{ErrorLog: log.New(io.Discard, "", 0)}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go server.Serve(listener)
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	for _, request := range requests() {
		result := ask(listener.Addr().String(), request)
		for name, value := range result.Headers {
			result.Headers[name] = strings.ReplaceAll(value, listener.Addr().String(), "HOST")
		}
		if err := out.Encode(result); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Fprintln(os.Stderr, runtime.Version())
}
