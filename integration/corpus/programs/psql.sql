\set QUIET on
SET search_path = shop, public;
\pset pager off
\timing off
\d
\d+
\dS
\d customer
\d+ customer
\d+ "Odd Schema".*
\d+ shop.*
\d happy
\sv happy
\ev happy
\da
\da+ shop.*
\dA
\dA+
\dAc
\dAc+ btree int4
\dAf
\dAf+ gin
\dAo
\dAo+ btree integer_ops
\dAp
\dAp+ hash
\db
\db+
\dc
\dc+ shop.*
\dconfig
\dconfig+ work_mem
\dC
\dC+ shop.*
\dd
\dd shop.*
\dD
\dD+ shop.*
\ddp
\ddp shop
\dE
\dE+
\des
\des+
\det
\det+ shop.*
\deu
\deu+
\dew
\dew+
\df
\df+ shop.*
\dfa shop.*
\dfn shop.* int
\dfp shop.*
\dft shop.*
\dfw
\dfS+ lower text
\dF
\dF+ shop.*
\dFd
\dFd+ shop.*
\dFp
\dFp+ default
\dFt
\dFt+ simple
\dg
\dg+ corpus*
\di
\di+ shop.*
\dl
\dl+
\dL
\dL+
\dLS
\dm
\dm+
\dn
\dn+ shop
\dnS
\do
\do+ shop.*
\doS + int int
\dO
\dO+ shop.*
\dp
\dp shop.*
\z customer
\dP
\dP+ shop.*
\dPi+
\dPt
\dPn
\drds
\drds corpus*
\dRp
\dRp+
\dRs
\dRs+
\ds
\ds+ shop.*
\dt
\dt+ shop.cu*
\dtvmsE
\dtS pg_c*
\dT
\dT+ shop.*
\du
\du+
\dv
\dv+ shop.*
\dx
\dx+ hstore
\dX
\dX+ shop.*
\dy
\dy+
\l
\l+
\l objects
\sf double
\sf+ both
\ef double
\encoding
\conninfo
\lo_list
\dit pg_catalog.*class*
\dt *.*
\d "Odd Schema"."Odd ""Table"""
\d event
\d+ event_2023
\d child
\d spare
\d far
\d+ sums
\d customer_lower
\df (a|b)*
\dt 'quo"te'
SELECT 1 AS a, 'x' AS b \gdesc
SELECT format('SELECT %s', n) FROM generate_series(1, 2) n \gexec
SELECT a, b, a * b AS c FROM generate_series(1, 2) a, generate_series(1, 2) b \crosstabview
\copy shop.parent TO /dev/null CSV HEADER
\copy (SELECT * FROM shop.parent WHERE a > 1) TO /dev/null
\lo_unlink 424242
\password corpus_writer
\set AUTOCOMMIT off
SELECT 1;
COMMIT;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1;
END;
\set FETCH_COUNT 1
SELECT * FROM shop.customer;
SELECT n
  , ';' -- a comment; here
  /* and /* one */ more */
FROM generate_series(1, 2) AS n;
SELECT 1 \; SELECT 2;
