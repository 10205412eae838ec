# Varnish in front of `[reports]`: keeps what may be kept, and drops what Turnpike says is outdated:
#
#   [[cdn]]
#   name = "varnish"
#   kind = "ban"
#   url = "http://127.0.0.1:6081/"
vcl 4.1;

import std;

backend default {
    .host = "127.0.0.1";
    .port = "9931";
    .probe = {
        .url = "/healthz";
        .interval = 1s;
        .timeout = 1s;
        .window = 3;
        .threshold = 2;
        .initial = 2;
    }
}

# Who may say that something is outdated: Turnpike.
acl purgers {
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.method == "BAN") {
        if (client.ip !~ purgers) {
            return (synth(405, "Not for you"));
        }
        if (std.ban("obj.http.surrogate-key ~ " + req.http.x-surrogate-key)) {
            return (synth(200, "Banned"));
        }
        return (synth(400, std.ban_error()));
    }
    # Reports take nothing from cookies, and who asks with a token is for Turnpike to judge.
    unset req.http.cookie;
    if (req.http.authorization) {
        return (pass);
    }
}

sub vcl_hit {
    # Past what may be given while it is asked for again; the rest of its grace is for when nobody can be asked.
    if (obj.ttl + std.duration(obj.http.x-revalidate, 0s) < 0s && std.healthy(req.backend_hint)) {
        set req.hash_always_miss = true;
        return (restart);
    }
}

sub vcl_backend_response {
    # What is stale is not put out by an error.
    if (beresp.status >= 500 && bereq.is_bgfetch) {
        return (abandon);
    }
    # Stale only where Turnpike says so (RFC 5861).
    set beresp.grace = 0s;
    set beresp.http.x-revalidate = "0s";
    if (beresp.http.cache-control ~ "stale-while-revalidate=[0-9]+") {
        set beresp.http.x-revalidate =
            regsub(beresp.http.cache-control, "^.*stale-while-revalidate=([0-9]+).*$", "\1s");
        set beresp.grace = std.duration(beresp.http.x-revalidate, 0s);
    }
    if (beresp.http.cache-control ~ "stale-if-error=[0-9]+") {
        if (std.duration(regsub(beresp.http.cache-control, "^.*stale-if-error=([0-9]+).*$", "\1s"), 0s) > beresp.grace) {
            set beresp.grace = std.duration(regsub(beresp.http.cache-control, "^.*stale-if-error=([0-9]+).*$", "\1s"), 0s);
        }
    }
}

sub vcl_deliver {
    if (obj.hits > 0) {
        set resp.http.x-cache = "hit";
    } else {
        set resp.http.x-cache = "miss";
    }
    # What is behind us concerns nobody.
    unset resp.http.surrogate-key;
    unset resp.http.cache-tag;
    unset resp.http.x-revalidate;
    unset resp.http.via;
    unset resp.http.x-varnish;
}
