-- Browsers log in once: a one-time link or a token becomes a session, which ends at the server.
-- serves programs from: 1

-- Ways into the page. Only a hash is kept of what the browser shows; a link ends when it is followed, a session when
-- somebody logs out.
create table logins (
    id         integer primary key autoincrement,
    project    integer not null references projects (id),
    kind       text not null check (kind in ('link', 'session')),
    hash       text not null unique,
    token      integer references tokens (id),   -- whose session it is; null: that of who has the key
    created_at integer not null,
    expires_at integer not null,
    ended_at   integer
) strict;
