-- records.db of a run by icl-harness 0.1: icl run dialects --model baseline/majority
-- --modes supervised,unsupervised --shots 0,2,3 --draws 2 --queries 3
PRAGMA user_version = 2;
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE texts (id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL);
INSERT INTO texts VALUES(1,X'7e00db77331d03dbc5ed54cb3860f3fd8a806b8a96f53027fe52c4096cf5915f',replace('Two words, then the answer.\n','\n',char(10)));
INSERT INTO texts VALUES(2,X'b5955489c4989f4ee95e8c831686bf69a58fda2457989d006503e1494b947164','tabi vemi ->');
INSERT INTO texts VALUES(3,X'8c1c06afcb2bb0342d015efec28ba61d11281d47d0cebd4edfa8d4d310a885c3','tozu jadu ->');
INSERT INTO texts VALUES(4,X'6718a4039abb35b87bddc2ab677be9454010c34f8c1aa77c13d71df171800eac','dofa kiru ->');
INSERT INTO texts VALUES(5,X'44296ea7812506397892a970a84f3aa019cc6f5de1bac197f5fc27564354ead4',replace('hilo hefu -> north\n','\n',char(10)));
INSERT INTO texts VALUES(6,X'2cd560b9cf9060bf0d68d7279102cf973e98b2142c88ac59958c607a9325b832',replace('vemi semo -> south\n','\n',char(10)));
INSERT INTO texts VALUES(7,X'9e33bc689a566700504685d7dcaed2fd65cdbeb30cddc6049e07241a9ff16b72',replace('vemi mezu -> south\n','\n',char(10)));
INSERT INTO texts VALUES(8,X'94c93efbfce5ccee69aae202baba1ef58d565e0e98e7849395185e8f210aeb0d','kiru beku ->');
INSERT INTO texts VALUES(9,X'233db7717beab89046a15be231b9bce86c1c095553c7a57cf3e747a6792a5828','niko rafu ->');
INSERT INTO texts VALUES(10,X'9c43ad6c0adf5ea2288c7295ede7e5a664aa1cdaa2f9de9280e07f0b2ece025c','jeno bizu ->');
INSERT INTO texts VALUES(11,X'be9903bad2f42547f7ab6060402eb4cbe55dc311c84ade30d770aba1058fb701',replace('vemi dofa -> east\n','\n',char(10)));
INSERT INTO texts VALUES(12,X'ed3fe8245201d5b2798949f27c7566699e0caa0fd1de0c008e5f6767158c6921',replace('hilo duli -> east\n','\n',char(10)));
INSERT INTO texts VALUES(13,X'b0861b3cf7f12e029b6c65c0178ebf9577066004f369ec3e29e3562b1e48d493',replace('luvi vemi -> south\n','\n',char(10)));
INSERT INTO texts VALUES(14,X'341dd59acbbcc0adcecadaa3a37db287a910c9fc38b65e709f1fb87b89b205e7',replace('Two words a line, no answers.\n','\n',char(10)));
INSERT INTO texts VALUES(15,X'482c9f27d8946a296b96378ed544c9bb7790e50e79355ac8733fe69078a2332e',replace('Now answer with north, east, south or west.\n','\n',char(10)));
INSERT INTO texts VALUES(16,X'15089cc2bb0f30a2b300a10a5abc79bfe04d85952d7fd303bcf6718f77509041',replace('hilo hefu\n','\n',char(10)));
INSERT INTO texts VALUES(17,X'53e14579d91f82ef9e0418f09065967df86079a3cd30fed2d508c467c13cad68',replace('vemi semo\n','\n',char(10)));
INSERT INTO texts VALUES(18,X'6b3edd187488bdea684c7c9e494bc9679eeafb57623929621185f2656884744e',replace('vemi mezu\n','\n',char(10)));
INSERT INTO texts VALUES(19,X'de414dc5510acba3510fe5b4deec425ce8d809ff7cdb1fa2a29c23937d4294cf',replace('vemi dofa\n','\n',char(10)));
INSERT INTO texts VALUES(20,X'9cfae229c32f487d4b6f1361ab0c3e715b482c3d17fd46bd073aa7ade84d919f',replace('hilo duli\n','\n',char(10)));
INSERT INTO texts VALUES(21,X'c82133e526979fc765bf6b6c6592121458f250a5f97998479dcb46dea4e30506',replace('luvi vemi\n','\n',char(10)));
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, shot_ids TEXT NOT NULL, text_ids TEXT NOT NULL,
    roles TEXT NOT NULL
);
INSERT INTO nodes VALUES(1,'b9ab3e78230613cf8fc82b1f075dcebd511c7050e759b92025ba4513c619cc30','[]','[1]','[""]');
INSERT INTO nodes VALUES(2,'6de7c2ea68973c04cb0f047c1cab280b57df3c7bdd3d060800cda9889bf33dcb','["d0-p0", "d0-p1"]','[1, 5, 6]','["", "", ""]');
INSERT INTO nodes VALUES(3,'8f5c7c8f206514a6279b0ac644ad39ad010d16a6eb820bcbd5308dd9d25c9a65','["d0-p0", "d0-p1", "d0-p2"]','[1, 5, 6, 7]','["", "", "", ""]');
INSERT INTO nodes VALUES(4,'0a661b06f3b99fa9ba2a5609e2ab0a69e4c84357e06058d5cb87c49af7d41c18','["d1-p0", "d1-p1"]','[1, 11, 12]','["", "", ""]');
INSERT INTO nodes VALUES(5,'1c8de41aac51d7737cbf854a925125732908f1ee40d8290ceb16832338a81d39','["d1-p0", "d1-p1", "d1-p2"]','[1, 11, 12, 13]','["", "", "", ""]');
INSERT INTO nodes VALUES(6,'a63eaae44af7ae38ef1c75401865a520733671bac54960e2089b2866b6a2c9d4','[]','[14, 15]','["", ""]');
INSERT INTO nodes VALUES(7,'5388bec4bdb767f5c7681727a3275fb14079e9a13cc88959cae5045102ce11d2','["d0-p0", "d0-p1"]','[14, 16, 17, 15]','["", "", "", ""]');
INSERT INTO nodes VALUES(8,'2b3a5a46d0cfe680c0b3e9dba389fc3365d80cf274c6c6a7668964097e8fa3e9','["d0-p0", "d0-p1", "d0-p2"]','[14, 16, 17, 18, 15]','["", "", "", "", ""]');
INSERT INTO nodes VALUES(9,'56f5603272b75775c777cdd5cdc867b64727b0c175d0ce69641146af5ca9cbe0','["d1-p0", "d1-p1"]','[14, 19, 20, 15]','["", "", "", ""]');
INSERT INTO nodes VALUES(10,'a76a40d598b1ba7d2edfe5bf5a388e96fc3f03fb9c6c74d78d4fcc626d56da1f','["d1-p0", "d1-p1", "d1-p2"]','[14, 19, 20, 21, 15]','["", "", "", "", ""]');
CREATE TABLE cells (
    id INTEGER PRIMARY KEY, task TEXT NOT NULL, model TEXT NOT NULL, mode TEXT NOT NULL, variant TEXT NOT NULL,
    format TEXT NOT NULL, queries_per_request INTEGER NOT NULL, shots INTEGER NOT NULL, draw INTEGER NOT NULL,
    metric TEXT NOT NULL, UNIQUE (task, model, mode, variant, format, queries_per_request, shots, draw)
);
INSERT INTO cells VALUES(1,'dialects','baseline/majority','supervised','default','text',1,0,0,'accuracy');
INSERT INTO cells VALUES(2,'dialects','baseline/majority','supervised','default','text',1,2,0,'accuracy');
INSERT INTO cells VALUES(3,'dialects','baseline/majority','supervised','default','text',1,3,0,'accuracy');
INSERT INTO cells VALUES(4,'dialects','baseline/majority','supervised','default','text',1,0,1,'accuracy');
INSERT INTO cells VALUES(5,'dialects','baseline/majority','supervised','default','text',1,2,1,'accuracy');
INSERT INTO cells VALUES(6,'dialects','baseline/majority','supervised','default','text',1,3,1,'accuracy');
INSERT INTO cells VALUES(7,'dialects','baseline/majority','unsupervised','default','text',1,0,0,'accuracy');
INSERT INTO cells VALUES(8,'dialects','baseline/majority','unsupervised','default','text',1,2,0,'accuracy');
INSERT INTO cells VALUES(9,'dialects','baseline/majority','unsupervised','default','text',1,3,0,'accuracy');
INSERT INTO cells VALUES(10,'dialects','baseline/majority','unsupervised','default','text',1,0,1,'accuracy');
INSERT INTO cells VALUES(11,'dialects','baseline/majority','unsupervised','default','text',1,2,1,'accuracy');
INSERT INTO cells VALUES(12,'dialects','baseline/majority','unsupervised','default','text',1,3,1,'accuracy');
CREATE TABLE records (
    cell INTEGER NOT NULL REFERENCES cells, query_id TEXT NOT NULL, sample INTEGER NOT NULL,
    node INTEGER NOT NULL REFERENCES nodes, query_text INTEGER NOT NULL REFERENCES texts, shots_used INTEGER NOT NULL,
    status TEXT NOT NULL, answer TEXT, parsed TEXT, score REAL, gold_nll REAL, error TEXT, reused INTEGER NOT NULL,
    prompt_tokens INTEGER, cached_tokens INTEGER, cache_write_tokens INTEGER, completion_tokens INTEGER,
    reasoning_tokens INTEGER, cost_usd REAL, latency_s REAL, n_lost INTEGER NOT NULL,
    PRIMARY KEY (cell, query_id, sample)
) WITHOUT ROWID;
INSERT INTO records VALUES(1,'d0-q45',0,1,2,0,'ok',' west','west',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0.011842953666776642393,0);
INSERT INTO records VALUES(1,'d0-q62',0,1,3,0,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0.011842953666776642393,0);
INSERT INTO records VALUES(1,'d0-q82',0,1,4,0,'ok',' south','south',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,0.011842953666776642393,0);
INSERT INTO records VALUES(2,'d0-q45',0,2,2,2,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,8.6304333308362402021e-05,0);
INSERT INTO records VALUES(2,'d0-q62',0,2,3,2,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,8.6304333308362402021e-05,0);
INSERT INTO records VALUES(2,'d0-q82',0,2,4,2,'ok',' north','north',1.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,8.6304333308362402021e-05,0);
INSERT INTO records VALUES(3,'d0-q45',0,3,2,3,'ok',' south','south',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,4.52946666579615923e-05,0);
INSERT INTO records VALUES(3,'d0-q62',0,3,3,3,'ok',' south','south',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,4.52946666579615923e-05,0);
INSERT INTO records VALUES(3,'d0-q82',0,3,4,3,'ok',' south','south',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,4.52946666579615923e-05,0);
INSERT INTO records VALUES(4,'d1-q45',0,1,8,0,'ok',' west','west',1.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.0743333203087480961e-05,0);
INSERT INTO records VALUES(4,'d1-q62',0,1,9,0,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.0743333203087480961e-05,0);
INSERT INTO records VALUES(4,'d1-q82',0,1,10,0,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.0743333203087480961e-05,0);
INSERT INTO records VALUES(5,'d1-q45',0,4,8,2,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.6194666740339016541e-05,0);
INSERT INTO records VALUES(5,'d1-q62',0,4,9,2,'ok',' east','east',1.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.6194666740339016541e-05,0);
INSERT INTO records VALUES(5,'d1-q82',0,4,10,2,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.6194666740339016541e-05,0);
INSERT INTO records VALUES(6,'d1-q45',0,5,8,3,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.7153333424745746179e-05,0);
INSERT INTO records VALUES(6,'d1-q62',0,5,9,3,'ok',' east','east',1.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.7153333424745746179e-05,0);
INSERT INTO records VALUES(6,'d1-q82',0,5,10,3,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.7153333424745746179e-05,0);
INSERT INTO records VALUES(7,'d0-q45',0,6,2,0,'ok',' west','west',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.150266664107524395e-05,0);
INSERT INTO records VALUES(7,'d0-q62',0,6,3,0,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.150266664107524395e-05,0);
INSERT INTO records VALUES(7,'d0-q82',0,6,4,0,'ok',' south','south',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.150266664107524395e-05,0);
INSERT INTO records VALUES(8,'d0-q45',0,7,2,2,'ok',' west','west',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.899533324637256704e-05,0);
INSERT INTO records VALUES(8,'d0-q62',0,7,3,2,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.899533324637256704e-05,0);
INSERT INTO records VALUES(8,'d0-q82',0,7,4,2,'ok',' south','south',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.899533324637256704e-05,0);
INSERT INTO records VALUES(9,'d0-q45',0,8,2,3,'ok',' west','west',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.2020333441760158166e-05,0);
INSERT INTO records VALUES(9,'d0-q62',0,8,3,3,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.2020333441760158166e-05,0);
INSERT INTO records VALUES(9,'d0-q82',0,8,4,3,'ok',' south','south',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,5.2020333441760158166e-05,0);
INSERT INTO records VALUES(10,'d1-q45',0,6,8,0,'ok',' west','west',1.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,7.0641666752635501325e-05,0);
INSERT INTO records VALUES(10,'d1-q62',0,6,9,0,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,7.0641666752635501325e-05,0);
INSERT INTO records VALUES(10,'d1-q82',0,6,10,0,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,7.0641666752635501325e-05,0);
INSERT INTO records VALUES(11,'d1-q45',0,9,8,2,'ok',' west','west',1.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.5795999944384675472e-05,0);
INSERT INTO records VALUES(11,'d1-q62',0,9,9,2,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.5795999944384675472e-05,0);
INSERT INTO records VALUES(11,'d1-q82',0,9,10,2,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.5795999944384675472e-05,0);
INSERT INTO records VALUES(12,'d1-q45',0,10,8,3,'ok',' west','west',1.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.6834666692254060429e-05,0);
INSERT INTO records VALUES(12,'d1-q62',0,10,9,3,'ok',' north','north',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.6834666692254060429e-05,0);
INSERT INTO records VALUES(12,'d1-q82',0,10,10,3,'ok',' east','east',0.0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,6.6834666692254060429e-05,0);
CREATE TABLE fetched (batch TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (batch, number))
WITHOUT ROWID
;
CREATE INDEX records_by_prompt ON records (node, query_text);
COMMIT;
